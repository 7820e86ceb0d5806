package stm

import (
	"fmt"
	"math"
	"math/big"
	"reflect"
	"time"
	"unicode/utf8"

	"google.golang.org/protobuf/types/known/timestamppb"

	"stmd.dev/client/go/internal/stmv1"
)

// Values nest this deep at most, as the daemon has it.
const valueDepthMax = 64

// encode makes the wire's value of a Go value. What no EDN value is the same as is BadValue.
func (c codec) encode(value any) (*stmv1.Value, error) { return c.encodeAt(reflect.ValueOf(value), 1) }

// codec is how a client writes and reads values.
type codec struct {
	keywordKeys bool // keys of maps that are strings to Go are keywords on the wire
}

func (c codec) encodeAt(value reflect.Value, level int) (*stmv1.Value, error) {
	if level > valueDepthMax {
		return nil, badValue(
			fmt.Sprintf("values nest %d deep at most: keep the parts in entries of their own", valueDepthMax),
		)
	}
	if !value.IsValid() {
		return wireNil(), nil
	}
	if registered := registeredType(value.Type()); registered != nil {
		return c.encodeRegistered(registered, value, level)
	}
	if known, err := c.encodeKnown(value.Interface(), level); known != nil || err != nil {
		return known, err
	}
	switch value.Kind() {
	case reflect.Bool:
		return &stmv1.Value{Kind: &stmv1.Value_Boolean{Boolean: value.Bool()}}, nil
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		return &stmv1.Value{Kind: &stmv1.Value_Integer{Integer: value.Int()}}, nil
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		if value.Uint() > math.MaxInt64 {
			return nil, badValue(fmt.Sprintf("%d does not fit 64 bits with a sign: write it as *big.Int", value.Uint()))
		}
		return &stmv1.Value{Kind: &stmv1.Value_Integer{Integer: int64(value.Uint())}}, nil
	case reflect.Float64:
		return &stmv1.Value{Kind: &stmv1.Value_Float64{Float64: value.Float()}}, nil
	case reflect.String:
		return encodeText(
			value.String(),
			func(text string) *stmv1.Value { return &stmv1.Value{Kind: &stmv1.Value_Text{Text: text}} },
		)
	case reflect.Pointer, reflect.Interface:
		if value.Kind() == reflect.Pointer && value.Type().Elem().Kind() == reflect.Pointer {
			return nil, badValue(fmt.Sprintf("nil would mean two things in a Go %v: use one pointer", value.Type()))
		}
		if value.IsNil() {
			return wireNil(), nil
		}
		return c.encodeAt(value.Elem(), level)
	case reflect.Slice:
		if value.Type().Elem().Kind() == reflect.Uint8 {
			return &stmv1.Value{Kind: &stmv1.Value_Blob{Blob: value.Bytes()}}, nil
		}
		items, err := c.encodeItems(value, level)
		return &stmv1.Value{Kind: &stmv1.Value_Vector{Vector: items}}, err
	case reflect.Map:
		return c.encodeGoMap(value, level)
	case reflect.Struct:
		return c.encodeStruct(value, level)
	}
	return nil, badValue(
		fmt.Sprintf(
			"no EDN value is the same as a Go %v: write one of the types in README.md, or stm.RegisterAs",
			value.Type(),
		),
	)
}

func wireNil() *stmv1.Value { return &stmv1.Value{Kind: &stmv1.Value_Nil{Nil: true}} }

func encodeText(text string, make func(string) *stmv1.Value) (*stmv1.Value, error) {
	if !utf8.ValidString(text) {
		return nil, badValue(fmt.Sprintf("the text %.40q is not UTF-8: write it as []byte", text))
	}
	return make(text), nil
}

// encodeKnown takes the types that are EDN's own; nil, nil: value is none of them.
func (c codec) encodeKnown(value any, level int) (*stmv1.Value, error) {
	switch v := value.(type) {
	case absent:
		return nil, badValue("stm.Absent is no value: delete the entry, or write nil")
	case Keyword:
		return encodeText(string(v), func(text string) *stmv1.Value {
			return &stmv1.Value{Kind: &stmv1.Value_Keyword{Keyword: text}}
		})
	case Symbol:
		return encodeText(string(v), func(text string) *stmv1.Value {
			return &stmv1.Value{Kind: &stmv1.Value_Symbol{Symbol: text}}
		})
	case Decimal:
		return encodeText(string(v), func(text string) *stmv1.Value {
			return &stmv1.Value{Kind: &stmv1.Value_Decimal{Decimal: text}}
		})
	case Char:
		if !utf8.ValidRune(rune(v)) {
			return nil, badValue(fmt.Sprintf("the character %#x is no Unicode scalar value", int32(v)))
		}
		return &stmv1.Value{Kind: &stmv1.Value_Character{Character: uint32(v)}}, nil
	case UUID:
		return &stmv1.Value{Kind: &stmv1.Value_Uuid{Uuid: v.String()}}, nil
	case *big.Int:
		if v == nil {
			return wireNil(), nil
		}
		return &stmv1.Value{Kind: &stmv1.Value_Bigint{Bigint: v.String()}}, nil
	case big.Int:
		return nil, badValue("a big.Int is copied by value: write *big.Int")
	case time.Time:
		if year := v.UTC().Year(); year < 1 || year > 9999 {
			return nil, badValue(fmt.Sprintf("the year %d is outside 0001 to 9999, which instants are within", year))
		}
		return &stmv1.Value{Kind: &stmv1.Value_Instant{Instant: timestamppb.New(v)}}, nil
	case List:
		items, err := c.encodeItems(reflect.ValueOf(v), level)
		return &stmv1.Value{Kind: &stmv1.Value_List{List: items}}, err
	case Set:
		items, err := c.encodeItems(reflect.ValueOf(v), level)
		return &stmv1.Value{Kind: &stmv1.Value_Set{Set: items}}, err
	case Map:
		entries := &stmv1.Map{}
		err := c.appendEntries(entries, v, level)
		if err == nil {
			err = c.checkKeys(entries)
		}
		return &stmv1.Value{Kind: &stmv1.Value_Map{Map: entries}}, err
	case Tagged:
		inside, err := c.encodeAt(reflect.ValueOf(v.Value), level+1)
		return &stmv1.Value{Kind: &stmv1.Value_Tagged{Tagged: &stmv1.Tagged{Tag: v.Tag, Value: inside}}}, err
	}
	return nil, nil
}

func (c codec) encodeItems(items reflect.Value, level int) (*stmv1.Items, error) {
	made := &stmv1.Items{}
	for i := range items.Len() {
		item, err := c.encodeAt(items.Index(i), level+1)
		if err != nil {
			return nil, within(err, fmt.Sprintf("[%d]", i))
		}
		made.Items = append(made.Items, item)
	}
	return made, nil
}

func (c codec) appendEntry(to *stmv1.Map, key, value reflect.Value, level int) error {
	wireKey, err := c.encodeAt(key, level+1)
	if err == nil && c.keywordKeys {
		wireKey, err = keywordKey(wireKey)
	}
	if err != nil {
		return within(err, "a key")
	}
	wireValue, err := c.encodeAt(value, level+1)
	if err != nil {
		return within(err, fmt.Sprintf("%.40v", key))
	}
	to.Entries = append(to.Entries, &stmv1.MapEntry{Key: wireKey, Value: wireValue})
	return nil
}

// checkKeys refuses a map in which a string that is written as a keyword meets that keyword.
func (c codec) checkKeys(entries *stmv1.Map) error {
	if !c.keywordKeys {
		return nil
	}
	seen := map[string]bool{}
	for _, entry := range entries.GetEntries() {
		keyword := entry.GetKey().GetKeyword()
		if keyword != "" && seen[keyword] {
			return badValue(fmt.Sprintf("%q is a key both as a string and as a keyword, and this client writes both as :%s: "+
				"connect without stm.KeywordKeys", keyword, keyword))
		}
		seen[keyword] = true
	}
	return nil
}

// keywordKey makes a key that is a text a keyword.
func keywordKey(key *stmv1.Value) (*stmv1.Value, error) {
	text, isText := key.GetKind().(*stmv1.Value_Text)
	if !isText {
		return key, nil
	}
	if text.Text == "" {
		return nil, badValue(`the key "" is no keyword's name: name it, or connect without stm.KeywordKeys`)
	}
	return &stmv1.Value{Kind: &stmv1.Value_Keyword{Keyword: text.Text}}, nil
}

func (c codec) appendEntries(to *stmv1.Map, entries Map, level int) error {
	for _, entry := range entries {
		if err := c.appendEntry(to, reflect.ValueOf(entry.Key), reflect.ValueOf(entry.Value), level); err != nil {
			return err
		}
	}
	return nil
}

func (c codec) encodeGoMap(value reflect.Value, level int) (*stmv1.Value, error) {
	made := &stmv1.Map{}
	for _, key := range value.MapKeys() {
		if err := c.appendEntry(made, key, value.MapIndex(key), level); err != nil {
			return nil, err
		}
	}
	if err := c.checkKeys(made); err != nil {
		return nil, err
	}
	return &stmv1.Value{Kind: &stmv1.Value_Map{Map: made}}, nil
}

func (c codec) encodeStruct(value reflect.Value, level int) (*stmv1.Value, error) {
	known, err := fieldsOf(value.Type())
	if err != nil {
		return nil, err
	}
	made := &stmv1.Map{}
	for i, keyword := range known.keywords {
		if i == known.unknown {
			continue
		}
		if err := c.appendEntry(made, reflect.ValueOf(keyword), value.Field(i), level); err != nil {
			return nil, err
		}
	}
	if known.unknown >= 0 {
		if err := c.appendEntries(made, value.Field(known.unknown).Interface().(UnknownFields).Fields, level); err != nil {
			return nil, err
		}
	}
	return &stmv1.Value{Kind: &stmv1.Value_Map{Map: made}}, nil
}

func (c codec) encodeRegistered(registered *registration, value reflect.Value, level int) (*stmv1.Value, error) {
	var inside *stmv1.Value
	var err error
	if registered.encode == nil {
		inside, err = c.encodeStruct(value, level+1)
	} else {
		var made any
		if made, err = registered.encode(value.Interface()); err == nil {
			inside, err = c.encodeAt(reflect.ValueOf(made), level+1)
		}
	}
	if err != nil {
		return nil, within(err, "#"+registered.tag)
	}
	return &stmv1.Value{Kind: &stmv1.Value_Tagged{Tagged: &stmv1.Tagged{Tag: registered.tag, Value: inside}}}, nil
}
