// SPDX-License-Identifier: Apache-2.0
// Several files of a folder replaced together: whoever is stopped while it writes has written nothing.
//
// New files are written as NAME.new. Then replacing.txt says which of them replace a file; each old one moves to
// NAME.old and the new one into its place. Removing replacing.txt is the moment from which the new files count:
// where it is found, the old ones are put back.
#pragma once

#include <string>
#include <utility>
#include <vector>

namespace resembed::graph_tool {

// One writer of a folder at a time. The lock goes with the process, however it ends.
class FolderLock {
 public:
  // Throws train::Error where another process writes to the folder. wait: until it is done.
  FolderLock(const std::string& folder, bool wait);
  ~FolderLock();
  FolderLock(const FolderLock&) = delete;
  FolderLock& operator=(const FolderLock&) = delete;

 private:
  int fd_ = -1;
};

class Replacement {
 public:
  // Creates the folder where there is none, and puts back what a stopped writer left. Throws train::Error.
  explicit Replacement(std::string folder);

  // Where to write what is to become `name`.
  std::string Path(const std::string& name);
  // The new files in the place of the old ones. What fails leaves the old ones. Throws train::Error.
  void Finish();

 private:
  std::string folder_;
  FolderLock lock_;
  std::vector<std::string> names_;
};

// Puts the files back that a writer was replacing when it was stopped; to be called before they are read. Not
// while this process has a Replacement of the folder. Throws train::Error.
void RestoreFolder(const std::string& folder);

}  // namespace resembed::graph_tool
