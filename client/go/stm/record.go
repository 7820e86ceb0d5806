package stm

import (
	"fmt"
	"reflect"
	"strings"
	"sync"
	"unicode"
)

// registration is one type with its tag. With encode and decode unset, it is a struct whose fields are a map's.
type registration struct {
	tag    string
	goType reflect.Type
	encode func(any) (any, error)
	decode func(any) (any, error)
}

var registry = struct {
	sync.RWMutex
	byTag  map[string]*registration
	byType map[reflect.Type]*registration
}{byTag: map[string]*registration{}, byType: map[reflect.Type]*registration{}}

// Register makes the struct T the tagged value #tag{:field value ...}, in the whole process. Fields are keywords in
// kebab case: StartDate is :start-date. Call it from init; it panics, as gob.Register does, if T or the tag is
// registered otherwise, if T is no struct, or if two fields spell the same keyword.
func Register[T any](tag string) {
	goType := reflect.TypeFor[T]()
	if goType.Kind() != reflect.Struct {
		panic(fmt.Sprintf("stm.Register: %v is no struct: use stm.RegisterAs", goType))
	}
	if _, err := fieldsOf(goType); err != nil {
		panic("stm.Register: " + err.Error())
	}
	add(&registration{tag: tag, goType: goType})
}

// RegisterAs makes T the tagged value #tag of what encode returns, which may be any EDN value; decode is its inverse.
// It panics if T or the tag is registered already.
func RegisterAs[T any](tag string, encode func(T) (any, error), decode func(any) (T, error)) {
	add(&registration{tag: tag, goType: reflect.TypeFor[T](),
		encode: func(v any) (any, error) { return encode(v.(T)) },
		decode: func(v any) (any, error) { return decode(v) }})
}

func add(one *registration) {
	registry.Lock()
	defer registry.Unlock()
	if other := registry.byTag[one.tag]; other != nil {
		if other.goType == one.goType && other.encode == nil && one.encode == nil {
			return
		}
		panic(
			fmt.Sprintf("stm.Register: #%s is %v already: give %v a tag of its own", one.tag, other.goType, one.goType),
		)
	}
	if other := registry.byType[one.goType]; other != nil {
		panic(fmt.Sprintf("stm.Register: %v is #%s already: a type has one tag", one.goType, other.tag))
	}
	registry.byTag[one.tag] = one
	registry.byType[one.goType] = one
}

func registeredTag(tag string) *registration {
	registry.RLock()
	defer registry.RUnlock()
	return registry.byTag[tag]
}

func registeredType(goType reflect.Type) *registration {
	registry.RLock()
	defer registry.RUnlock()
	return registry.byType[goType]
}

var unknownFieldsType = reflect.TypeFor[UnknownFields]()

type fields struct {
	keywords []Keyword // by index of the field; "" for the one that keeps what is unknown
	unknown  int       // its index; -1: none
}

func fieldsOf(goType reflect.Type) (*fields, error) {
	found := &fields{keywords: make([]Keyword, goType.NumField()), unknown: -1}
	names := map[Keyword]string{}
	for i := range goType.NumField() {
		field := goType.Field(i)
		if !field.IsExported() {
			return nil, badValue(
				fmt.Sprintf("%v has the unexported field %s, which would be lost: export it", goType, field.Name),
			)
		}
		if field.Type == unknownFieldsType {
			found.unknown = i
			continue
		}
		keyword := Keyword(kebabCase(field.Name))
		if other, taken := names[keyword]; taken {
			return nil, badValue(
				fmt.Sprintf("%v: %s and %s are both :%s: rename one", goType, other, field.Name, keyword),
			)
		}
		names[keyword] = field.Name
		found.keywords[i] = keyword
	}
	return found, nil
}

// kebabCase spells StartDate, startDate and start_date as start-date, and HTTPServer as http-server.
func kebabCase(name string) string {
	var out strings.Builder
	letters := []rune(name)
	dash := func() {
		if out.Len() > 0 && !strings.HasSuffix(out.String(), "-") {
			out.WriteByte('-')
		}
	}
	for i, c := range letters {
		if c == '_' {
			dash()
			continue
		}
		if i > 0 && unicode.IsUpper(c) {
			before := letters[i-1]
			endsWord := unicode.IsLower(before) || unicode.IsDigit(before)
			beginsWord := unicode.IsUpper(before) && i+1 < len(letters) && unicode.IsLower(letters[i+1])
			if endsWord || beginsWord {
				dash()
			}
		}
		out.WriteRune(unicode.ToLower(c))
	}
	return strings.TrimRight(out.String(), "-")
}
