package stm

import (
	"context"
	"log/slog"
	"reflect"
	"time"

	"google.golang.org/grpc"

	"stmd.dev/client/go/internal/stmv1"
)

// Entry is one entry of a listing.
type Entry struct {
	Name    string
	Value   any // nil: nil
	Version int64
	IsAtom  bool
}

// EDN is a validator's rule as text: stm.EDN("[:and :int [:min 0]]").
type EDN string

// Definition is what an entry has beside its value. It is fixed at creation, by the first to create it; a Define
// changes all but the container.
type Definition struct {
	Validator any           // the rule that each value must satisfy, as EDN or as values; nil: none
	TTL       time.Duration // at least 1 ms; each write starts it again. 0: for ever
	Ephemeral bool          // bound to this client's session, whose end deletes it
	Container string        // that keeps the value, as "mongo"; "": inline
}

// Committed is what a transaction was when it was durable.
type Committed struct {
	Version       int64 // 0: it only read, and had nothing to commit
	At            time.Time
	TransactionID string
	Repeated      bool // a Once key was spent already: Version is the first call's
	Resends       int  // all its runs together: sent again under the same id, since no answer had come
}

// Rerun tells that a body runs again.
type Rerun struct {
	Run    int // that begins now; 2 is the first rerun
	Causes []ConflictCause
	Why    string // when no entry is to blame: "snapshot-too-old", "store-changed", "session-expired"
}

// Transacted tells of one Transact that has ended.
type Transacted struct {
	Label string
	Runs  int
	Took  time.Duration
	Err   error // nil: it is committed
}

type connectConfig struct {
	address            string
	prefix             string
	clientName         string
	unavailableTimeout time.Duration
	sessionTTL         time.Duration
	keywordKeys        bool
	warn               func(string)
	traceparent        func(context.Context) string
	onTransacted       func(context.Context, Transacted)
	dial               []grpc.DialOption
}

// ConnectOption changes what Connect does.
type ConnectOption func(*connectConfig)

// Address is where daemons are: host:port or unix:/path, several by comma. The first that answers is kept until it
// fails. Without it: STM_ADDRESS, else 127.0.0.1:7440.
func Address(address string) ConnectOption { return func(c *connectConfig) { c.address = address } }

// Prefix puts every name below it, as "/team-a"; the client sees names without it.
func Prefix(prefix string) ConnectOption { return func(c *connectConfig) { c.prefix = prefix } }

// ClientName is kept with each commit. Without it: the program's name.
func ClientName(name string) ConnectOption { return func(c *connectConfig) { c.clientName = name } }

// UnavailableTimeout is how long calls, and Connect, wait out an outage. Without it: 10 s.
func UnavailableTimeout(limit time.Duration) ConnectOption {
	return func(c *connectConfig) { c.unavailableTimeout = max(limit, 0) }
}

// SessionTTL is how long the locks and ephemeral entries of this client outlive what the daemon heard of it last: 2 s
// to 10 min. 0, or without it: the daemon's default.
func SessionTTL(ttl time.Duration) ConnectOption {
	return func(c *connectConfig) { c.sessionTTL = ttl }
}

// KeywordKeys makes keys of maps that are strings to Go keywords on the wire, and back: for teams with Clojure. A map
// that has a string for a key can't be read then: ErrBadValue, naming the entry.
func KeywordKeys() ConnectOption { return func(c *connectConfig) { c.keywordKeys = true } }

// OnWarning takes the client's own warnings (a transaction at its 10th run). Without it: slog.Warn.
func OnWarning(warn func(text string)) ConnectOption { return func(c *connectConfig) { c.warn = warn } }

// Traceparent asks for the W3C trace context of each transaction, as OpenTelemetry's propagation.TraceContext puts it
// into a carrier; "": none.
func Traceparent(of func(context.Context) string) ConnectOption {
	return func(c *connectConfig) { c.traceparent = of }
}

// OnTransacted is told of each transaction that ended, in its caller's goroutine: for metrics.
func OnTransacted(f func(context.Context, Transacted)) ConnectOption {
	return func(c *connectConfig) { c.onTransacted = f }
}

// DialOptions are gRPC's own, after those of this package: interceptors, a dialer, statistics.
func DialOptions(options ...grpc.DialOption) ConnectOption {
	return func(c *connectConfig) { c.dial = append(c.dial, options...) }
}

func warnBySlog(text string) { slog.Warn("stm: " + text) }

// keptResult is the entry under a Once key.
type keptResult struct {
	name  string
	value *stmv1.Value
}

type transactConfig struct {
	label             string
	snapshotIsolation bool
	once              string
	onceTTL           time.Duration
	onceResult        func() any                    // nil: nothing is kept
	onceAdopt         func(codec, keptResult) error // takes a result that was kept
	runsMax           int
	staleOK           bool
	rerunCheck        bool
	onRerun           func(Rerun)
	report            *Committed
}

// TransactOption changes what one transaction does. Its time is its ctx's.
type TransactOption func(*transactConfig)

// Label says why; it comes back in the log, watches and conflict causes.
func Label(label string) TransactOption { return func(c *transactConfig) { c.label = label } }

// SnapshotIsolation is Clojure's: only what was set, deleted or ensured is checked. Without it all reads and lists are.
func SnapshotIsolation() TransactOption {
	return func(c *transactConfig) { c.snapshotIsolation = true }
}

// Once is a key, as "order-123": a second transaction of that key, from any process, within OnceTTL, runs nothing. It
// is kept as the entry /.once/KEY, in the same commit.
func Once(key string) TransactOption { return func(c *transactConfig) { c.once = key } }

// OnceResult is Once, and keeps *result as it is when the body has returned. The second transaction's is set to it.
func OnceResult[T any](key string, result *T) TransactOption {
	return func(c *transactConfig) {
		c.once = key
		c.onceResult = func() any { return *result }
		c.onceAdopt = func(values codec, kept keptResult) error {
			made, _, err := decodeAs[T](values, kept.name, kept.value)
			if err == nil {
				*result = made
			}
			return err
		}
	}
}

// OnceTTL is how long a Once key is remembered. Without it: 24 h.
func OnceTTL(ttl time.Duration) TransactOption { return func(c *transactConfig) { c.onceTTL = ttl } }

// RunsMax ends conflicts after so many runs: ErrConflict. 0, or without it: no limit.
func RunsMax(runs int) TransactOption { return func(c *transactConfig) { c.runsMax = runs } }

// StaleOK lets the first read be of what the daemon has in memory; then even a transaction that only reads is
// committed, to check that.
func StaleOK() TransactOption { return func(c *transactConfig) { c.staleOK = true } }

// RerunCheck is for tests: each body runs twice on one snapshot and must read and write the same, else ErrRerunDiffers
// shows where it differed.
func RerunCheck() TransactOption { return func(c *transactConfig) { c.rerunCheck = true } }

// OnRerun hears of each rerun before it begins.
func OnRerun(f func(Rerun)) TransactOption { return func(c *transactConfig) { c.onRerun = f } }

// Report has what was committed put into *to, on success.
func Report(to *Committed) TransactOption { return func(c *transactConfig) { c.report = to } }

const onceTTLDefault = 24 * time.Hour

func transactConfigOf(options []TransactOption) *transactConfig {
	made := &transactConfig{onceTTL: onceTTLDefault}
	for _, option := range options {
		option(made)
	}
	return made
}

// same says whether an inner transaction's options are the outer one's. Functions are compared by whether they are
// there.
func (c *transactConfig) same(other *transactConfig) bool {
	plain := func(of *transactConfig) transactConfig {
		bare := *of
		bare.onceResult, bare.onceAdopt, bare.onRerun = nil, nil, nil
		return bare
	}
	return reflect.DeepEqual(plain(c), plain(other)) && c.report == other.report &&
		(c.onRerun == nil) == (other.onRerun == nil) &&
		(c.onceResult == nil) == (other.onceResult == nil)
}
