package stm

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

// Bounds of names, as the daemon has them.
const (
	nameBytesMax    = 512
	nameSegmentsMax = 32
	nameShownMax    = 64 // bytes of a wrong one in a message
)

// names puts a client's prefix before each name that goes out, and takes it from each that comes back. A system name
// has it after its first segment: /.once/key of /team-a is /.once/team-a/key.
type names struct{ prefix string }

func isSystem(name string) bool { return strings.HasPrefix(name, "/.") }

func firstSegmentEnd(name string) int {
	if end := strings.IndexByte(name[1:], '/'); end >= 0 {
		return end + 1
	}
	return len(name)
}

func (n names) full(name string) string {
	if n.prefix == "" {
		return name
	}
	if isSystem(name) {
		end := firstSegmentEnd(name)
		return name[:end] + n.prefix + name[end:]
	}
	return n.prefix + name
}

func (n names) short(name string) string {
	if n.prefix == "" || name == "" {
		return name
	}
	from := 0
	if isSystem(name) {
		from = firstSegmentEnd(name)
	}
	rest, under := strings.CutPrefix(name[from:], n.prefix)
	if !under {
		return name
	}
	return name[:from] + rest
}

func wrongName(what, whole, why string) error {
	shown := whole
	if len(shown) > nameShownMax {
		shown = shown[:nameShownMax] + "..."
	}
	made := badValue(fmt.Sprintf("%s %q: %s", what, shown, why)).(*Error)
	made.Name = whole
	return made
}

// checkName says which rule a name breaks.
func checkName(name string) error { return checkPath(name, name, "name") }

// checkPrefix takes a name and "/", which means all that is under it; "/" is all but the system's names.
func checkPrefix(prefix string) error {
	if prefix == "/" {
		return nil
	}
	path, ends := strings.CutSuffix(prefix, "/")
	if !ends {
		return wrongName("prefix", prefix, `must end in "/", which means all that is under it`)
	}
	return checkPath(path, prefix, "prefix")
}

func checkPath(path, whole, what string) error {
	if !strings.HasPrefix(path, "/") {
		return wrongName(what, whole, `must begin with "/"`)
	}
	if len(path) > nameBytesMax {
		return wrongName(
			what,
			whole,
			fmt.Sprintf("%d bytes, at most %d (name_bytes_max): shorten it", len(path), nameBytesMax),
		)
	}
	at := 1
	segments := strings.Split(path[1:], "/")
	for i, segment := range segments {
		switch {
		case segment == "" && i == len(segments)-1 && i > 0:
			return wrongName(what, whole, fmt.Sprintf(`must not end in "/" (byte %d)`, at))
		case segment == "":
			return wrongName(what, whole, fmt.Sprintf("empty segment (byte %d)", at))
		case segment == "." || segment == "..":
			return wrongName(what, whole, fmt.Sprintf(`a segment may not be "." or ".." (byte %d)`, at))
		}
		for j, c := range segment {
			if c == utf8.RuneError && !strings.HasPrefix(segment[j:], "\uFFFD") {
				return wrongName(what, whole, fmt.Sprintf("not UTF-8 at byte %d", at+j))
			}
			if c < 0x20 || c >= 0x7F && c < 0xA0 {
				return wrongName(what, whole, fmt.Sprintf("control character at byte %d", at+j))
			}
		}
		at += len(segment) + 1
	}
	if len(segments) > nameSegmentsMax {
		return wrongName(
			what,
			whole,
			fmt.Sprintf("%d segments, at most %d (name_segments_max)", len(segments), nameSegmentsMax),
		)
	}
	return nil
}

// underPrefix says whether prefix, which ends in "/", selects name.
func underPrefix(name, prefix string) bool {
	if len(name) <= len(prefix) || !strings.HasPrefix(name, prefix) {
		return false
	}
	return len(prefix) > 1 || !isSystem(name)
}
