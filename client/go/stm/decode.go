package stm

import (
	"errors"
	"fmt"
	"math/big"
	"reflect"
	"time"
	"unicode/utf8"

	"stmd.dev/client/go/internal/stmv1"
)

// decodeAs reads the value of the entry called name as a T. What does not fit T exactly is BadValue, naming the entry and the
// place in it. An absent value is ErrAbsent.
func decodeAs[T any](name string, value *stmv1.Value) (T, error) {
	var made T
	if value.GetKind() == nil {
		return made, &Error{Reason: ReasonAbsent, Name: name, Message: name + " is absent: set it first, or give its handle an init"}
	}
	if err := decodeInto(value, reflect.ValueOf(&made).Elem()); err != nil {
		var wrong *Error
		if !errors.As(err, &wrong) {
			return made, err
		}
		named := *wrong
		named.Name, named.Message = name, name+": "+wrong.Message
		var zero T
		return zero, &named
	}
	return made, nil
}

// within adds a step of the path to a BadValue; other errors, a codec's own, are wrapped.
func within(err error, step string) error {
	var wrong *Error
	if !errors.As(err, &wrong) {
		return fmt.Errorf("at %s: %w", step, err)
	}
	placed := *wrong
	placed.Message = "at " + step + ": " + wrong.Message
	return &placed
}

func mismatch(expected fmt.Stringer, found any) error {
	return &Error{Reason: ReasonBadValue, Expected: expected.String(), Found: fmt.Sprintf("%T", found),
		Message: fmt.Sprintf("expected a Go %v, found %T %.40v: read it as the type it has, or as any", expected, found, found)}
}

// decodeInto is strict: no type becomes another.
func decodeInto(value *stmv1.Value, to reflect.Value) error {
	goType := to.Type()
	if registered := registeredType(goType); registered != nil {
		tagged := value.GetTagged()
		if tagged == nil || tagged.GetTag() != registered.tag {
			return refuse(value, goType)
		}
		return decodeRegistered(registered, tagged.GetValue(), to)
	}
	switch goType.Kind() {
	case reflect.Interface:
		return decodeInterface(value, to)
	case reflect.Pointer:
		if goType.Elem().Kind() == reflect.Pointer {
			return badValue(fmt.Sprintf("nil would mean two things in a Go %v: use one pointer", goType))
		}
		if _, isNil := value.GetKind().(*stmv1.Value_Nil); isNil {
			to.SetZero()
			return nil
		}
		if goType == reflect.TypeFor[*big.Int]() {
			break
		}
		to.Set(reflect.New(goType.Elem()))
		return decodeInto(value, to.Elem())
	case reflect.Slice:
		if goType == reflect.TypeFor[List]() || goType == reflect.TypeFor[Set]() || goType == reflect.TypeFor[Map]() ||
			goType.Elem().Kind() == reflect.Uint8 {
			break
		}
		return decodeSlice(value, to)
	case reflect.Map:
		return decodeGoMap(value, to)
	case reflect.Struct:
		if goType == reflect.TypeFor[time.Time]() || goType == reflect.TypeFor[Tagged]() {
			break
		}
		if value.GetMap() == nil {
			return refuse(value, goType)
		}
		return decodeStruct(value.GetMap(), to)
	}
	return decodeScalar(value, to)
}

func refuse(value *stmv1.Value, goType reflect.Type) error {
	found, err := decodeAny(value)
	if err != nil {
		return err
	}
	return mismatch(goType, found)
}

func decodeScalar(value *stmv1.Value, to reflect.Value) error {
	found, err := decodeAny(value)
	if err != nil {
		return err
	}
	switch v := found.(type) {
	case int64:
		if to.CanInt() && to.Type() != reflect.TypeFor[Char]() && !to.OverflowInt(v) {
			to.SetInt(v)
			return nil
		}
		if to.CanUint() && v >= 0 && !to.OverflowUint(uint64(v)) {
			to.SetUint(uint64(v))
			return nil
		}
		return mismatch(to.Type(), found)
	case nil:
		return mismatch(to.Type(), found)
	}
	source := reflect.ValueOf(found)
	if source.Type() == to.Type() {
		to.Set(source)
		return nil
	}
	// A named type of the user's: type Email string, type Digest []byte.
	plain := false
	switch found.(type) {
	case string, bool, float64:
		plain = source.Kind() == to.Kind() && !notPlain[to.Type()]
	case []byte:
		plain = to.Kind() == reflect.Slice && to.Type().Elem().Kind() == reflect.Uint8
	}
	if plain {
		to.Set(source.Convert(to.Type()))
		return nil
	}
	return mismatch(to.Type(), found)
}

// Types of this package that are strings to Go, and no EDN strings.
var notPlain = map[reflect.Type]bool{
	reflect.TypeFor[Keyword](): true, reflect.TypeFor[Symbol](): true, reflect.TypeFor[Decimal](): true,
}

func decodeInterface(value *stmv1.Value, to reflect.Value) error {
	found, err := decodeAny(value)
	if err != nil {
		return err
	}
	if found == nil {
		to.SetZero()
		return nil
	}
	if !reflect.TypeOf(found).AssignableTo(to.Type()) {
		return mismatch(to.Type(), found)
	}
	to.Set(reflect.ValueOf(found))
	return nil
}

func decodeSlice(value *stmv1.Value, to reflect.Value) error {
	vector, ok := value.GetKind().(*stmv1.Value_Vector)
	if !ok {
		return refuse(value, to.Type())
	}
	items := vector.Vector.GetItems()
	made := reflect.MakeSlice(to.Type(), len(items), len(items))
	for i, item := range items {
		if err := decodeInto(item, made.Index(i)); err != nil {
			return within(err, fmt.Sprintf("[%d]", i))
		}
	}
	to.Set(made)
	return nil
}

func decodeGoMap(value *stmv1.Value, to reflect.Value) error {
	if value.GetMap() == nil {
		return refuse(value, to.Type())
	}
	made := reflect.MakeMap(to.Type())
	for _, entry := range value.GetMap().GetEntries() {
		key, mapped := reflect.New(to.Type().Key()).Elem(), reflect.New(to.Type().Elem()).Elem()
		if err := decodeInto(entry.GetKey(), key); err != nil {
			return within(err, "a key")
		}
		if !key.Comparable() {
			return within(mismatch(to.Type(), key.Interface()), "a key")
		}
		if err := decodeInto(entry.GetValue(), mapped); err != nil {
			return within(err, fmt.Sprintf("%.40v", key))
		}
		made.SetMapIndex(key, mapped)
	}
	if made.Len() != len(value.GetMap().GetEntries()) {
		return badValue("two keys are one to Go: read it as stm.Map")
	}
	to.Set(made)
	return nil
}

func decodeStruct(value *stmv1.Map, to reflect.Value) error {
	known, err := fieldsOf(to.Type())
	if err != nil {
		return err
	}
	index := map[Keyword]int{}
	for i, keyword := range known.keywords {
		if i != known.unknown {
			index[keyword] = i
		}
	}
	for _, entry := range value.GetEntries() {
		keyword, isKeyword := entry.GetKey().GetKind().(*stmv1.Value_Keyword)
		if isKeyword {
			if i, here := index[Keyword(keyword.Keyword)]; here {
				if err := decodeInto(entry.GetValue(), to.Field(i)); err != nil {
					return within(err, ":"+keyword.Keyword)
				}
				delete(index, Keyword(keyword.Keyword))
				continue
			}
		}
		key, err := decodeAny(entry.GetKey())
		if err != nil {
			return within(err, "a key")
		}
		if known.unknown < 0 {
			return badValue(fmt.Sprintf("%v has no place for the field %.40v: give it a field of type stm.UnknownFields, which keeps it", to.Type(), key))
		}
		kept, err := decodeAny(entry.GetValue())
		if err != nil {
			return within(err, fmt.Sprintf("%.40v", key))
		}
		unknown := to.Field(known.unknown).Addr().Interface().(*UnknownFields)
		unknown.Fields = append(unknown.Fields, MapEntry{key, kept})
	}
	for keyword, i := range index {
		if to.Field(i).Kind() != reflect.Pointer {
			return badValue(fmt.Sprintf("%v needs a field :%s, which the value lacks: make it a pointer if older values lack it", to.Type(), keyword))
		}
	}
	return nil
}

func decodeRegistered(registered *registration, inside *stmv1.Value, to reflect.Value) error {
	if registered.decode == nil {
		if inside.GetMap() == nil {
			return within(refuse(inside, to.Type()), "#"+registered.tag)
		}
		if err := decodeStruct(inside.GetMap(), to); err != nil {
			return within(err, "#"+registered.tag)
		}
		return nil
	}
	found, err := decodeAny(inside)
	if err != nil {
		return within(err, "#"+registered.tag)
	}
	made, err := registered.decode(found)
	if err != nil {
		return within(err, "#"+registered.tag)
	}
	to.Set(reflect.ValueOf(made))
	return nil
}

// decodeAny reads a value as the Go type that its own type has; Absent if there is none.
func decodeAny(value *stmv1.Value) (any, error) {
	switch kind := value.GetKind().(type) {
	case nil:
		return Absent, nil
	case *stmv1.Value_Nil:
		return nil, nil
	case *stmv1.Value_Boolean:
		return kind.Boolean, nil
	case *stmv1.Value_Integer:
		return kind.Integer, nil
	case *stmv1.Value_Float64:
		return kind.Float64, nil
	case *stmv1.Value_Text:
		return kind.Text, nil
	case *stmv1.Value_Blob:
		return append([]byte{}, kind.Blob...), nil
	case *stmv1.Value_Character:
		if kind.Character > utf8.MaxRune || !utf8.ValidRune(rune(kind.Character)) {
			return nil, unreadable(fmt.Sprintf("the character %#x", kind.Character))
		}
		return Char(kind.Character), nil
	case *stmv1.Value_Keyword:
		return Keyword(kind.Keyword), nil
	case *stmv1.Value_Symbol:
		return Symbol(kind.Symbol), nil
	case *stmv1.Value_Instant:
		if err := kind.Instant.CheckValid(); err != nil {
			return nil, unreadable("an instant")
		}
		return kind.Instant.AsTime(), nil
	case *stmv1.Value_Uuid:
		return ParseUUID(kind.Uuid)
	case *stmv1.Value_Bigint:
		made, ok := new(big.Int).SetString(kind.Bigint, 10)
		if !ok {
			return nil, unreadable("a bigint")
		}
		return made, nil
	case *stmv1.Value_Decimal:
		return Decimal(kind.Decimal), nil
	case *stmv1.Value_List:
		items, err := decodeItems(kind.List)
		return List(items), err
	case *stmv1.Value_Vector:
		return decodeItems(kind.Vector)
	case *stmv1.Value_Set:
		items, err := decodeItems(kind.Set)
		return Set(items), err
	case *stmv1.Value_Map:
		return decodeMap(kind.Map)
	case *stmv1.Value_Tagged:
		if registered := registeredTag(kind.Tagged.GetTag()); registered != nil {
			made := reflect.New(registered.goType).Elem()
			if err := decodeRegistered(registered, kind.Tagged.GetValue(), made); err != nil {
				return nil, err
			}
			return made.Interface(), nil
		}
		inside, err := decodePart(kind.Tagged.GetValue())
		return Tagged{Tag: kind.Tagged.GetTag(), Value: inside}, err
	}
	return nil, unreadable(fmt.Sprintf("a %T", value.GetKind()))
}

func unreadable(what string) error {
	return badValue("the daemon sent " + what + " that this client can't read: use a client as new as the daemon")
}

// decodePart reads a value inside another, which is never absent.
func decodePart(value *stmv1.Value) (any, error) {
	if value.GetKind() == nil {
		return nil, unreadable("a value of a kind")
	}
	return decodeAny(value)
}

func decodeItems(items *stmv1.Items) ([]any, error) {
	made := make([]any, 0, len(items.GetItems()))
	for i, item := range items.GetItems() {
		one, err := decodePart(item)
		if err != nil {
			return nil, within(err, fmt.Sprintf("[%d]", i))
		}
		made = append(made, one)
	}
	return made, nil
}

func decodeMap(value *stmv1.Map) (any, error) {
	made := make(Map, 0, len(value.GetEntries()))
	for _, entry := range value.GetEntries() {
		key, err := decodePart(entry.GetKey())
		if err != nil {
			return nil, within(err, "a key")
		}
		mapped, err := decodePart(entry.GetValue())
		if err != nil {
			return nil, within(err, fmt.Sprintf("%.40v", key))
		}
		made = append(made, MapEntry{key, mapped})
	}
	return made, nil
}
