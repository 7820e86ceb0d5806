package stm

import (
	"errors"
	"fmt"
	"math"
	"math/big"
	"math/rand"
	"reflect"
	"strings"
	"testing"
	"time"

	"stmd.dev/client/go/internal/stmv1"
)

type createUser struct {
	Name, Email string
	StartDate   time.Time
	Nick        *string
}
type keeping struct {
	Name string
	UnknownFields
}

var plain codec

type money struct{ cents int64 }

func init() {
	Register[createUser]("blog.CreateUser")
	Register[keeping]("test.Keeping")
	RegisterAs[money]("shop.Money", func(m money) (any, error) { return m.cents, nil }, func(v any) (money, error) {
		cents, ok := v.(int64)
		if !ok {
			return money{}, errors.New("cents are an integer")
		}
		return money{cents}, nil
	})
}

var someValues = []any{
	nil, true, false, int64(0), int64(math.MinInt64), int64(math.MaxInt64), 1.0, 10.0, math.Inf(1), math.Copysign(0, -1), 1e300,
	"", "grüße \x00\n", []byte{}, []byte{0, 255}, Char('a'), Char(0x10FFFF), Keyword("a/b"), Symbol("inc"), Decimal("-1.50"),
	big.NewInt(7), new(big.Int).Lsh(big.NewInt(-1), 200), UUID{1, 2, 15: 255},
	time.Date(1, 1, 1, 0, 0, 0, 1, time.UTC), time.Date(9999, 12, 31, 23, 59, 59, 999999999, time.UTC),
	[]any{}, []any{int64(1), 1.0, "1"}, List{int64(1), []any{nil}}, Set{int64(1), Keyword("k")}, Map{},
	Map{{"a", int64(1)}, {[]any{int64(2)}, nil}}, Tagged{"some.Thing", Map{{Keyword("x"), 1.0}}},
	createUser{Name: "Bob", Email: "b@example.com", StartDate: time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC)}, money{12},
	keeping{"n", UnknownFields{Map{{Keyword("newer"), Set{int64(1)}}}}},
}

// randomValue draws one, of depth+1 levels at most; what is in its sets, and its keys, differ.
func randomValue(random *rand.Rand, depth int) any {
	if depth == 0 || random.Intn(3) > 0 {
		switch random.Intn(6) {
		case 0:
			return int64(random.Uint64())
		case 1:
			return random.NormFloat64()
		case 2:
			return fmt.Sprintf("text %d ü", random.Int())
		case 3:
			return time.Unix(random.Int63n(1e10), random.Int63n(1e9)).UTC()
		case 4:
			return new(big.Int).Mul(big.NewInt(random.Int63()), big.NewInt(-random.Int63()))
		}
		return someValues[random.Intn(len(someValues))]
	}
	items := make([]any, random.Intn(5))
	for i := range items {
		items[i] = randomValue(random, depth-1)
	}
	switch random.Intn(5) {
	case 0:
		return items
	case 1:
		return List(items)
	case 2:
		return Tagged{"random.Tag", items}
	case 3:
		set := Set{}
		for i := range items {
			set = append(set, int64(i))
		}
		return set
	}
	made := Map{}
	for i, item := range items {
		made = append(made, MapEntry{[]any{int64(i)}, item})
	}
	return made
}

func mustEncode(t *testing.T, value any) *stmv1.Value {
	t.Helper()
	wire, err := plain.encode(value)
	if err != nil {
		t.Fatalf("encode %v: %v", value, err)
	}
	return wire
}

func TestEveryValueComesBackTheSame(t *testing.T) {
	values := append([]any{}, someValues...)
	random := rand.New(rand.NewSource(17))
	for range 500 {
		values = append(values, randomValue(random, 4))
	}
	for _, value := range values {
		back, err := plain.decodeUntyped("/v", mustEncode(t, value))
		if err != nil || !reflect.DeepEqual(back, value) {
			t.Errorf("%#v came back as %#v, %v", value, back, err)
		}
	}
}

func TestNaNComesBackAsNaN(t *testing.T) {
	back, _, err := decodeAs[float64](plain, "/n", mustEncode(t, math.NaN()))
	if err != nil || !math.IsNaN(back) {
		t.Errorf("%v %v", back, err)
	}
}

func decodes[T any](t *testing.T, value any, want T) {
	t.Helper()
	back, _, err := decodeAs[T](plain, "/e", mustEncode(t, value))
	if err != nil || !reflect.DeepEqual(back, want) {
		t.Errorf("%#v as %T: %#v, %v", value, want, back, err)
	}
}

func refuses[T any](t *testing.T, value any) {
	t.Helper()
	back, _, err := decodeAs[T](plain, "/e", mustEncode(t, value))
	var wrong *Error
	if !errors.Is(err, ErrBadValue) || !errors.As(err, &wrong) || wrong.Name != "/e" ||
		!strings.Contains(err.Error(), "/e") {
		t.Errorf("%#v as %T: %#v, %v", value, back, back, err)
	}
}

type email string

func TestDecodingIntoAGoTypeThatFitsExactly(t *testing.T) {
	decodes(t, 5, int8(5))
	decodes(t, 5, uint64(5))
	decodes(t, []int{}, []int{})
	decodes(t, []int(nil), []int{})
	decodes(t, map[string]int{"a": 1}, map[string]int{"a": 1})
	decodes(t, "x", email("x"))
	decodes[*int](t, nil, nil)
	decodes[*big.Int](t, (*big.Int)(nil), nil)
	decodes(t, []createUser{{Name: "Bob"}}, []createUser{{Name: "Bob"}})
	decodes(t, struct{ StartDate int }{3}, map[Keyword]int{"start-date": 3})
}

func TestDecodingIsStrictAndNamesTheEntry(t *testing.T) {
	refuses[int](t, 1.0)
	refuses[float64](t, 1)
	refuses[int](t, big.NewInt(1))
	refuses[*big.Int](t, 1)
	refuses[int8](t, 128)
	refuses[uint](t, -1)
	refuses[string](t, Keyword("a"))
	refuses[Keyword](t, "a")
	refuses[Decimal](t, "1")
	refuses[Char](t, 65)
	refuses[List](t, []byte{1})
	refuses[[]byte](t, []any{int64(1)})
	refuses[[]int](t, List{int64(1)})
	refuses[[]int](t, []any{int64(1), "2"})
	refuses[int](t, nil)
	refuses[**int](t, nil)
	refuses[createUser](t, Map{})
	refuses[createUser](t, Tagged{"blog.CreateUser", int64(1)})
	refuses[createUser](t, Tagged{"blog.CreateUser", Map{{Keyword("name"), "Bob"}}})
	refuses[struct{ Name string }](t, Map{{Keyword("name"), "n"}, {Keyword("newer"), int64(1)}})
	refuses[map[any]int](t, Map{{[]any{}, int64(1)}})
}

func TestAFieldWithoutAPlaceIsKeptOrRefusedAndNeverLost(t *testing.T) {
	newer := Map{{Keyword("name"), "n"}, {Keyword("newer"), int64(1)}}
	kept := keeping{"n", UnknownFields{Map{{Keyword("newer"), int64(1)}}}}
	decodes(t, Tagged{"test.Keeping", newer}, kept)
	decodes[any](t, kept, kept)
	refuses[struct{ Name string }](t, newer)
}

func TestWhatIsNoValueIsBadValue(t *testing.T) {
	deep := any(int64(1))
	for range 64 {
		deep = []any{deep}
	}
	for _, value := range []any{Absent, []any{Absent}, uint64(math.MaxUint64), "\xff", make(chan int), float32(1), deep, new(*int), Char(0xD800),
		time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC), struct{ hidden int }{1}} {
		if wire, err := plain.encode(value); !errors.Is(err, ErrBadValue) {
			t.Errorf("%T: %v %v", value, wire, err)
		}
	}
}

func TestAnAbsentEntryIsNotNil(t *testing.T) {
	if _, _, err := decodeAs[any](plain, "/none", nil); !errors.Is(err, ErrAbsent) ||
		!strings.Contains(err.Error(), "/none") {
		t.Error(err)
	}
}

func TestFieldsAreKeywordsInKebabCase(t *testing.T) {
	for name, want := range map[string]string{"StartDate": "start-date", "startDate": "start-date", "start_date": "start-date",
		"HTTPServer": "http-server", "Name": "name", "ID": "id", "Line2": "line2"} {
		if got := kebabCase(name); got != want {
			t.Errorf("%s: %s, want %s", name, got, want)
		}
	}
}

func panics(t *testing.T, what string, do func()) {
	t.Helper()
	defer func() {
		if recover() == nil {
			t.Errorf("%s: no panic", what)
		}
	}()
	do()
}

func TestRegistrationRefusesWhatIsAmbiguous(t *testing.T) {
	panics(t, "one keyword twice", func() { Register[struct{ StartDate, Start_Date int }]("test.Twice") })
	panics(t, "a tag twice", func() { Register[struct{ A int }]("blog.CreateUser") })
	panics(t, "a type twice", func() { Register[createUser]("test.Other") })
	panics(t, "no struct", func() { Register[int]("test.Int") })
	Register[createUser]("blog.CreateUser")
}

func TestAUUIDIsReadInEitherCaseAndNothingElseIs(t *testing.T) {
	if u, err := ParseUUID("F81D4FAE-7DEC-11D0-A765-00A0C91E6BF6"); err != nil ||
		u.String() != "f81d4fae-7dec-11d0-a765-00a0c91e6bf6" {
		t.Error(u, err)
	}
	for _, text := range []string{"", "f81d4fae7dec11d0a76500a0c91e6bf6", "g81d4fae-7dec-11d0-a765-00a0c91e6bf6"} {
		if _, err := ParseUUID(text); !errors.Is(err, ErrBadValue) {
			t.Errorf("%q: %v", text, err)
		}
	}
}

func FuzzTextComesBackOrIsRefused(f *testing.F) {
	f.Add("a")
	f.Add("\xff")
	f.Fuzz(func(t *testing.T, text string) {
		wire, err := plain.encode(text)
		if err != nil {
			if !errors.Is(err, ErrBadValue) {
				t.Fatal(err)
			}
			return
		}
		if back, _, err := decodeAs[string](plain, "/t", wire); err != nil || back != text {
			t.Fatalf("%q: %q %v", text, back, err)
		}
	})
}
