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

// decoder reads one value.
type decoder struct {
	codec
	lossy bool // a registered type had no place for a field
}

// decodeAs reads the value of the entry called name as a T. What does not fit T exactly is BadValue, naming the entry
// and the place in it. An absent value is ErrAbsent. lossy: a registered type has no place for a field that the value
// has.
func decodeAs[T any](c codec, name string, value *stmv1.Value) (made T, lossy bool, err error) {
	if value.GetKind() == nil {
		return made, false, absentError(name)
	}
	d := decoder{codec: c}
	if err := d.decodeInto(value, reflect.ValueOf(&made).Elem()); err != nil {
		var zero T
		return zero, false, ofEntry(name, err)
	}
	return made, d.lossy, nil
}

// decodeUntyped is decodeAs[any], but that an absent value is Absent.
func (c codec) decodeUntyped(name string, value *stmv1.Value) (any, error) {
	d := decoder{codec: c}
	made, err := d.decodeAny(value)
	if err != nil {
		return nil, ofEntry(name, err)
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
		Message: fmt.Sprintf(
			"expected a Go %v, found %T %.40v: read it as the type it has, or as any",
			expected,
			found,
			found,
		)}
}

// decodeInto is strict: no type becomes another.
func (d *decoder) decodeInto(value *stmv1.Value, to reflect.Value) error {
	goType := to.Type()
	if registered := registeredType(goType); registered != nil {
		tagged := value.GetTagged()
		if tagged == nil || tagged.GetTag() != registered.tag {
			return d.refuse(value, goType)
		}
		return d.decodeRegistered(registered, tagged.GetValue(), to)
	}
	switch goType.Kind() {
	case reflect.Interface:
		return d.decodeInterface(value, to)
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
		return d.decodeInto(value, to.Elem())
	case reflect.Slice:
		if goType == reflect.TypeFor[List]() || goType == reflect.TypeFor[Set]() || goType == reflect.TypeFor[Map]() ||
			goType.Elem().Kind() == reflect.Uint8 {
			break
		}
		return d.decodeSlice(value, to)
	case reflect.Map:
		return d.decodeGoMap(value, to)
	case reflect.Struct:
		if goType == reflect.TypeFor[time.Time]() || goType == reflect.TypeFor[Tagged]() {
			break
		}
		if value.GetMap() == nil {
			return d.refuse(value, goType)
		}
		return d.decodeStruct(value.GetMap(), to, false)
	}
	return d.decodeScalar(value, to)
}

func (d *decoder) refuse(value *stmv1.Value, goType reflect.Type) error {
	found, err := d.decodeAny(value)
	if err != nil {
		return err
	}
	return mismatch(goType, found)
}

func (d *decoder) decodeScalar(value *stmv1.Value, to reflect.Value) error {
	found, err := d.decodeAny(value)
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

func (d *decoder) decodeInterface(value *stmv1.Value, to reflect.Value) error {
	found, err := d.decodeAny(value)
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

func (d *decoder) decodeSlice(value *stmv1.Value, to reflect.Value) error {
	vector, ok := value.GetKind().(*stmv1.Value_Vector)
	if !ok {
		return d.refuse(value, to.Type())
	}
	items := vector.Vector.GetItems()
	made := reflect.MakeSlice(to.Type(), len(items), len(items))
	for i, item := range items {
		if err := d.decodeInto(item, made.Index(i)); err != nil {
			return within(err, fmt.Sprintf("[%d]", i))
		}
	}
	to.Set(made)
	return nil
}

func (d *decoder) decodeGoMap(value *stmv1.Value, to reflect.Value) error {
	if value.GetMap() == nil {
		return d.refuse(value, to.Type())
	}
	made := reflect.MakeMap(to.Type())
	for _, entry := range value.GetMap().GetEntries() {
		key, mapped := reflect.New(to.Type().Key()).Elem(), reflect.New(to.Type().Elem()).Elem()
		wireKey := entry.GetKey()
		if to.Type().Key() != reflect.TypeFor[Keyword]() {
			var err error
			if wireKey, err = d.textKey(wireKey); err != nil {
				return within(err, "a key")
			}
		}
		if err := d.decodeInto(wireKey, key); err != nil {
			return within(err, "a key")
		}
		if !key.Comparable() {
			return within(mismatch(to.Type(), key.Interface()), "a key")
		}
		if err := d.decodeInto(entry.GetValue(), mapped); err != nil {
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

// textKey makes a key that is a keyword a text, in a client that reads them so.
func (d *decoder) textKey(key *stmv1.Value) (*stmv1.Value, error) {
	if !d.keywordKeys {
		return key, nil
	}
	switch kind := key.GetKind().(type) {
	case *stmv1.Value_Keyword:
		return &stmv1.Value{Kind: &stmv1.Value_Text{Text: kind.Keyword}}, nil
	case *stmv1.Value_Text:
		return nil, badValue(fmt.Sprintf("the string %.40q is a key, and this client writes such keys as keywords: "+
			"connect without stm.KeywordKeys", kind.Text))
	}
	return key, nil
}

// decodeStruct reads a map's fields. tolerant: a field without a place makes it lossy, and is no error.
func (d *decoder) decodeStruct(value *stmv1.Map, to reflect.Value, tolerant bool) error {
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
				if err := d.decodeInto(entry.GetValue(), to.Field(i)); err != nil {
					return within(err, ":"+keyword.Keyword)
				}
				delete(index, Keyword(keyword.Keyword))
				continue
			}
		}
		key, err := d.decodeAny(entry.GetKey())
		if err != nil {
			return within(err, "a key")
		}
		if known.unknown < 0 && tolerant {
			d.lossy = true
			continue
		}
		if known.unknown < 0 {
			return badValue(
				fmt.Sprintf(
					"%v has no place for the field %.40v: give it a field of type stm.UnknownFields, which keeps it",
					to.Type(),
					key,
				),
			)
		}
		kept, err := d.decodeAny(entry.GetValue())
		if err != nil {
			return within(err, fmt.Sprintf("%.40v", key))
		}
		unknown := to.Field(known.unknown).Addr().Interface().(*UnknownFields)
		unknown.Fields = append(unknown.Fields, MapEntry{key, kept})
	}
	for keyword, i := range index {
		if to.Field(i).Kind() != reflect.Pointer {
			return badValue(
				fmt.Sprintf(
					"%v needs a field :%s, which the value lacks: make it a pointer if older values lack it",
					to.Type(),
					keyword,
				),
			)
		}
	}
	return nil
}

func (d *decoder) decodeRegistered(registered *registration, inside *stmv1.Value, to reflect.Value) error {
	if registered.decode == nil {
		if inside.GetMap() == nil {
			return within(d.refuse(inside, to.Type()), "#"+registered.tag)
		}
		if err := d.decodeStruct(inside.GetMap(), to, true); err != nil {
			return within(err, "#"+registered.tag)
		}
		return nil
	}
	found, err := d.decodeAny(inside)
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
func (d *decoder) decodeAny(value *stmv1.Value) (any, error) {
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
		items, err := d.decodeItems(kind.List)
		return List(items), err
	case *stmv1.Value_Vector:
		return d.decodeItems(kind.Vector)
	case *stmv1.Value_Set:
		items, err := d.decodeItems(kind.Set)
		return Set(items), err
	case *stmv1.Value_Map:
		return d.decodeMap(kind.Map)
	case *stmv1.Value_Tagged:
		if registered := registeredTag(kind.Tagged.GetTag()); registered != nil {
			made, whole := reflect.New(registered.goType).Elem(), decoder{codec: d.codec}
			if err := whole.decodeRegistered(registered, kind.Tagged.GetValue(), made); err == nil && !whole.lossy {
				return made.Interface(), nil
			}
			// Of another version of the type: nothing of it is lost, as if it were not registered.
		}
		inside, err := d.decodePart(kind.Tagged.GetValue())
		return Tagged{Tag: kind.Tagged.GetTag(), Value: inside}, err
	}
	return nil, unreadable(fmt.Sprintf("a %T", value.GetKind()))
}

func unreadable(what string) error {
	return badValue("the daemon sent " + what + " that this client can't read: use a client as new as the daemon")
}

// decodePart reads a value inside another, which is never absent.
func (d *decoder) decodePart(value *stmv1.Value) (any, error) {
	if value.GetKind() == nil {
		return nil, unreadable("a value of a kind")
	}
	return d.decodeAny(value)
}

func (d *decoder) decodeItems(items *stmv1.Items) ([]any, error) {
	made := make([]any, 0, len(items.GetItems()))
	for i, item := range items.GetItems() {
		one, err := d.decodePart(item)
		if err != nil {
			return nil, within(err, fmt.Sprintf("[%d]", i))
		}
		made = append(made, one)
	}
	return made, nil
}

func (d *decoder) decodeMap(value *stmv1.Map) (any, error) {
	made := make(Map, 0, len(value.GetEntries()))
	for _, entry := range value.GetEntries() {
		wireKey, err := d.textKey(entry.GetKey())
		if err != nil {
			return nil, within(err, "a key")
		}
		key, err := d.decodePart(wireKey)
		if err != nil {
			return nil, within(err, "a key")
		}
		mapped, err := d.decodePart(entry.GetValue())
		if err != nil {
			return nil, within(err, fmt.Sprintf("%.40v", key))
		}
		made = append(made, MapEntry{key, mapped})
	}
	return made, nil
}
