package stm

import (
	"encoding/hex"
	"fmt"
	"reflect"
	"strings"
)

// Keyword is an EDN keyword without its colon: "name" or "ns/name".
type Keyword string

// Symbol is an EDN symbol: "name" or "ns/name".
type Symbol string

// Decimal is an EDN decimal as digits, without the M: "1.50". Its scale is kept.
type Decimal string

// Char is an EDN character: a Unicode scalar value. (A Go rune is an int32, which is an EDN integer.)
type Char rune

// List is an EDN list. A slice is a vector.
type List []any

// Set is an EDN set: items distinct, in an order that means nothing.
type Set []any

// MapEntry is one key of a Map with its value.
type MapEntry struct{ Key, Value any }

// Map is an EDN map with keys of any type, in an order that means nothing. A map is read as a Map unless a Go map or a
// struct is asked for.
type Map []MapEntry

// Get returns the value under key, and whether there is one.
func (m Map) Get(key any) (any, bool) {
	for _, entry := range m {
		if reflect.DeepEqual(entry.Key, key) {
			return entry.Value, true
		}
	}
	return nil, false
}

// Tagged is a tagged value whose tag no type is registered for; it is written back as it was read.
type Tagged struct {
	Tag   string // without the '#'
	Value any
}

// UnknownFields, as a field of a struct, keeps the fields that the struct has no place for, and writes them back. A
// struct without one refuses a value that has such fields: BadValue.
type UnknownFields struct{ Fields Map }

type absent struct{}

func (absent) String() string { return "absent" }

// Absent is what an entry that does not exist has instead of a value. It is not nil, and never inside a value.
var Absent any = absent{}

// UUID is an EDN uuid.
type UUID [16]byte

// String returns the 36 characters, in lower case.
func (u UUID) String() string {
	h := hex.EncodeToString(u[:])
	return h[:8] + "-" + h[8:12] + "-" + h[12:16] + "-" + h[16:20] + "-" + h[20:]
}

// ParseUUID reads 36 characters, in either case. Anything else is BadValue.
func ParseUUID(text string) (UUID, error) {
	var u UUID
	digits, err := hex.DecodeString(strings.ReplaceAll(text, "-", ""))
	if err == nil && len(digits) == len(u) {
		copy(u[:], digits)
		if u.String() == strings.ToLower(text) {
			return u, nil
		}
	}
	return UUID{}, badValue(
		fmt.Sprintf("%q is no uuid: write 36 characters, as in f81d4fae-7dec-11d0-a765-00a0c91e6bf6", text),
	)
}
