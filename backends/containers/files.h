// Keeps values as files of EDN text under a directory, for people to read: the example of a container in C++,
// and one that needs no server. What is OK is on disk. Several daemons may share the directory, where the
// file system has hard links and locks that all of them see. A call takes as long as its disk does: a file
// system can't be asked to hurry.
#ifndef STM_BACKENDS_CONTAINERS_FILES_H_
#define STM_BACKENDS_CONTAINERS_FILES_H_

#include <string>

#include "absl/status/statusor.h"
#include "backends/containers/container.h"
#include "backends/containers/registry.h"

namespace stm::containers {

// file:///var/lib/stmd-values. The directory is made if there is none. A Factory.
absl::StatusOr<Container> MakeFiles(const std::string& uri, const FactoryOptions& options = {});

}  // namespace stm::containers

#endif  // STM_BACKENDS_CONTAINERS_FILES_H_
