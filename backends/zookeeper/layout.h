// Where things are in ZooKeeper, below the chroot; engine/DESIGN.md of the founders calls all of it /stm.
// Pure.
//
//   /stm/epoch              what the store is: its id, its format, its base; its version fences every commit
//   /stm/w/<writer>         a daemon's start: its newest batch; its version is that daemon's chain. Gone:
//   closed /stm/d/<writer>         ephemeral: that daemon runs /stm/r                  the directory "/"; its
//   version is that of its listing /stm/r/bHH/dSEGMENT     the directory "/SEGMENT/", and so on below it
//   /stm/r/bHH/fSEGMENT     the entry "/SEGMENT"
//   /stm/restore            a restore is under way, or was interrupted: then there is no epoch
//   /stm/log/<segment>      how many of its entries are trimmed
//   /stm/log/<segment>/e-0000000042   an entry of the log: a batch of commits, or a move of the epoch
//
// bHH is one of 64 buckets by the segment's sum, so that a directory of a million entries is never listed in
// one answer. A segment's characters that ZooKeeper takes in no path, and "%", are written as %XX, a byte
// each.
#ifndef STM_BACKENDS_ZOOKEEPER_LAYOUT_H_
#define STM_BACKENDS_ZOOKEEPER_LAYOUT_H_

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace stm::zookeeper {

inline constexpr char kStorePath[] = "/stm";  // never set: its version stays 0
inline constexpr char kEpochPath[] = "/stm/epoch";
inline constexpr char kWritersPath[] = "/stm/w";
inline constexpr char kDaemonsPath[] = "/stm/d";
inline constexpr char kEntriesPath[] = "/stm/r";
inline constexpr char kLogsPath[] = "/stm/log";
inline constexpr char kRestorePath[] = "/stm/restore";  // its version fences that restore's multis
inline constexpr int kBuckets = 64;

// 16 hex digits behind the parent's path.
std::string WriterPath(uint64_t writer);
std::string DaemonPath(uint64_t writer);
std::string LogPath(int64_t segment);

// Of a log entry: its place in the log's order. Within a segment they count up by one.
inline constexpr int kIndexBits = 31;  // ZooKeeper numbers a node's children with these
inline constexpr int64_t FirstOf(int64_t segment) { return segment << kIndexBits; }
inline constexpr int64_t SegmentOf(int64_t position) { return position >> kIndexBits; }
std::string LogEntryPath(int64_t position);
// Of a path that a sequential create came to, below any chroot; nullopt: of none such.
std::optional<int64_t> LogPositionOf(std::string_view path);

// The node of an entry, or of a directory ("/", "/a/").
std::string NodePath(std::string_view name);
// The nodes above that of an entry or a directory, highest first, without /stm/r itself: directories and
// buckets.
std::vector<std::string> NodesAbove(std::string_view name);
// The directory that a node is, "/a/"; nullopt: it is none.
std::optional<std::string> DirectoryOf(std::string_view path);
// What a bucket's child is, under the directory `prefix`: "/a/b", an entry, or "/a/b/", a directory. nullopt:
// neither.
std::optional<std::string> ChildOf(std::string_view prefix, std::string_view child);
std::string BucketPath(std::string_view prefix, int bucket);
// The directory right above an entry or a directory: of "/a/b" and "/a/b/" it is "/a/". Not of "/".
std::string_view ParentOf(std::string_view name);

}  // namespace stm::zookeeper

#endif  // STM_BACKENDS_ZOOKEEPER_LAYOUT_H_
