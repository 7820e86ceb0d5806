package stm

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"reflect"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	"stmd.dev/client/go/internal/stmv1"
)

const (
	progressEveryDefault = 10 * time.Second
	// A watch's daemon that sends no progress mark for so many intervals and so long more is given up.
	silentIntervals = 3
	silentMore      = 5 * time.Second
)

// ChangeKind is what became of an entry.
type ChangeKind string

// The kinds.
const (
	ChangeSet     ChangeKind = "set"
	ChangeDeleted ChangeKind = "deleted"
	ChangeExpired ChangeKind = "expired" // deleted by its TTL or its session's end
	ChangeDefined ChangeKind = "defined" // only its definition changed
)

// Change is what one commit did to one entry.
type Change struct {
	Name          string
	Kind          ChangeKind
	Before        any // nil: nil; Absent: absent, unless BeforeUnknown
	After         any // nil: nil; Absent: absent
	BeforeUnknown bool
	IsAtom        bool
}

// Commit is one commit, whole, as watches and histories show it.
type Commit struct {
	Version       int64
	At            time.Time
	TransactionID string
	Meta          Meta
	Changes       []Change // those selected
	Records       []any    // each of a registered type, else Tagged
	Initial       bool     // no commit, but all that is there at Version: what was known before is void
}

type watchConfig struct {
	more       []string
	initial    bool
	after      int64
	conflate   bool
	progress   time.Duration
	onProgress func(int64)
	onSynced   func(int64)
}

// WatchOption changes what a watch tells.
type WatchOption func(*watchConfig)

// Initial begins with all as it is, as one Commit marked Initial; then comes each commit after it.
func Initial() WatchOption { return func(c *watchConfig) { c.initial = true } }

// After begins with the commits after a version. Without it, or at 0: from now. Not with Initial.
func After(version int64) WatchOption { return func(c *watchConfig) { c.after = version } }

// Also selects more names, or prefixes that end in "/".
func Also(names ...string) WatchOption {
	return func(c *watchConfig) { c.more = append(c.more, names...) }
}

// Conflate merges commits that are not yet sent, for a slow reader: the newest value of each entry only.
func Conflate() WatchOption { return func(c *watchConfig) { c.conflate = true } }

// ProgressEvery is how often the daemon says that nothing changed: at least 100 ms. Without it: 10 s.
func ProgressEvery(interval time.Duration) WatchOption {
	return func(c *watchConfig) { c.progress = max(interval, 100*time.Millisecond) }
}

// OnProgress is told, while nothing selected changes, the version to resume after. In the goroutine that iterates.
func OnProgress(f func(version int64)) WatchOption { return func(c *watchConfig) { c.onProgress = f } }

// OnSynced is called once the watch is set: every commit after version will be told. In the goroutine that iterates.
func OnSynced(f func(version int64)) WatchOption { return func(c *watchConfig) { c.onSynced = f } }

func watchConfigOf(options []WatchOption) watchConfig {
	made := watchConfig{progress: progressEveryDefault}
	for _, option := range options {
		option(&made)
	}
	return made
}

// watched is a commit on the wire, or the whole state.
type watched struct {
	initial bool
	version int64
	commit  *stmv1.CommitEvent // without changes and records; nil: initial
	changes []*stmv1.Change
	records []*stmv1.Value
}

// add takes one message of a commit.
func (w *watched) add(event *stmv1.CommitEvent) {
	w.version, w.commit = event.GetVersion(), event
	w.changes = append(w.changes, event.GetChanges()...)
	w.records = append(w.records, event.GetRecords()...)
}

func (c *Client) commitOf(w *watched) (Commit, error) {
	made := Commit{Version: w.version, Initial: w.initial}
	if w.commit != nil {
		made.At, made.TransactionID, made.Meta = w.commit.GetAt().
			AsTime(),
			w.commit.GetTransactionId(), metaOf(
				w.commit.GetMeta(),
			)
	}
	for _, one := range w.changes {
		change := Change{Name: c.names.short(one.GetName()), Kind: ChangeSet, BeforeUnknown: one.GetBeforeUnknown(),
			IsAtom: one.GetEntryKind() == stmv1.EntryKind_ENTRY_KIND_ATOM}
		switch one.GetKind() {
		case stmv1.ChangeKind_CHANGE_KIND_DELETED:
			change.Kind = ChangeDeleted
		case stmv1.ChangeKind_CHANGE_KIND_EXPIRED:
			change.Kind = ChangeExpired
		case stmv1.ChangeKind_CHANGE_KIND_DEFINED:
			change.Kind = ChangeDefined
		}
		var err error
		if change.Before, err = c.codec.decodeUntyped(change.Name, one.GetBefore()); err != nil {
			return Commit{}, err
		}
		if change.After, err = c.codec.decodeUntyped(change.Name, one.GetAfter()); err != nil {
			return Commit{}, err
		}
		made.Changes = append(made.Changes, change)
	}
	for _, one := range w.records {
		record, err := c.codec.decodeUntyped(fmt.Sprintf("a record of version %d", w.version), one)
		if err != nil {
			return Commit{}, err
		}
		made.Records = append(made.Records, record)
	}
	return made, nil
}

func (c *Client) addToCommit(event *stmv1.CommitEvent, to *Commit) error {
	whole := &watched{}
	whole.add(event)
	made, err := c.commitOf(whole)
	*to = made
	return err
}

// Watch tells each commit that changes what is selected, in order, each once, until ctx is done, whose error is the
// last. name is an entry's, or a prefix that ends in "/". Lost connections are mended unseen; what was lost for good is
// mended by a Commit marked Initial.
func (c *Client) Watch(ctx context.Context, name string, options ...WatchOption) iter.Seq2[Commit, error] {
	return func(yield func(Commit, error) bool) {
		config := watchConfigOf(options)
		err := c.watch(ctx, append([]string{name}, config.more...), config, func(w *watched) (bool, error) {
			commit, err := c.commitOf(w)
			if err != nil {
				return false, err
			}
			return yield(commit, nil), nil
		})
		if err != nil {
			yield(Commit{}, err)
		}
	}
}

// watch is nil once told returns false; told's error is its own.
func (c *Client) watch(
	ctx context.Context,
	selectors []string,
	config watchConfig,
	told func(*watched) (bool, error),
) error {
	if err := checkOutside(ctx, "a watch"); err != nil {
		return err
	}
	if config.initial && config.after != 0 {
		wrong := badValue("a watch begins with the present state or after a version, not both: leave out one").(*Error)
		wrong.Name = "after"
		return wrong
	}
	selector := &stmv1.Selector{}
	for _, one := range selectors {
		if path, isPrefix := strings.CutSuffix(one, "/"); isPrefix {
			if err := checkPrefix(one); path != "" && err != nil {
				return err
			}
			// "/" is all; below a prefix that is all of the prefix.
			selector.Prefixes = append(selector.Prefixes, c.names.full(one))
			continue
		}
		if err := checkName(one); err != nil {
			return err
		}
		selector.Names = append(selector.Names, c.names.full(one))
	}
	w := &watcher{
		client:   c,
		ctx:      ctx,
		selector: selector,
		config:   config,
		told:     told,
		out:      outage{limit: c.options.unavailableTimeout},
		after:    config.after,
		initial:  config.initial,
		store:    c.position.get().store,
	}
	for {
		l, err := c.transport.get(ctx, w.out.giveUpAt())
		if err != nil {
			return w.end(err)
		}
		over, err := w.runOn(l)
		if over {
			return err
		}
		if !c.transport.sleep(ctx, w.out.pause(nil)) {
			return w.end(nil)
		}
	}
}

// watcher is a watch, over as many calls as it takes.
type watcher struct {
	client   *Client
	ctx      context.Context
	selector *stmv1.Selector
	config   watchConfig
	told     func(*watched) (bool, error)
	out      outage
	after    int64
	initial  bool
	synced   bool
	store    uint64
}

// end is why it ended: ErrClosed and ctx's own error first.
func (w *watcher) end(err error) error {
	if w.client.ctx.Err() != nil {
		return ErrClosed
	}
	if w.ctx.Err() != nil {
		return fmt.Errorf("stm: the watch ended: %w", w.ctx.Err())
	}
	return err
}

var errSilent = errors.New("stm: no progress mark in time")

// runOn makes one call. over: it is not to go on by another.
func (w *watcher) runOn(l *link) (over bool, err error) {
	// Versions of another store mean nothing; and without any, what came meanwhile is only in the present state.
	store := w.client.position.get().store
	if store != w.store || w.synced && w.after == 0 {
		w.initial = true
	}
	w.store = store
	request := &stmv1.WatchRequest{Selector: w.selector, Initial: w.initial, Conflate: w.config.conflate,
		ProgressEvery: durationpb.New(w.config.progress), Seen: w.client.position.seen()}
	if !w.initial {
		request.AfterVersion = w.after
	}
	ctx, cancel := context.WithCancelCause(w.ctx)
	defer cancel(nil)
	defer context.AfterFunc(l.ctx, func() { cancel(nil) })()
	stream, err := stmv1.NewWatchServiceClient(l.conn).Watch(ctx, request)
	if err != nil {
		return w.afterEnd(l, err)
	}
	silent := silentIntervals*w.config.progress + silentMore
	timer := time.AfterFunc(silent, func() { cancel(errSilent) })
	defer timer.Stop()
	state := &watched{initial: true} // with initial, until it is whole
	var partial *watched             // a commit of several messages
	tell := func(one *watched) (bool, error) {
		timer.Stop() // a slow reader is no silent daemon
		goOn, err := w.told(one)
		timer.Reset(silent)
		return !goOn || err != nil, err
	}
	for {
		event, err := stream.Recv()
		if err != nil {
			if errors.Is(context.Cause(ctx), errSilent) {
				failed := unavailable(l.address + " sent no progress mark in time")
				l.fail(failed)
				w.out.fail(failed)
				return false, nil
			}
			return w.afterEnd(l, err)
		}
		timer.Reset(silent)
		l.hear()
		w.out.end()
		switch kind := event.GetEvent().(type) {
		case *stmv1.WatchResponse_Opened:
			w.client.position.observe(kind.Opened)
		case *stmv1.WatchResponse_Initial:
			state.changes = append(state.changes, &stmv1.Change{Name: kind.Initial.GetName(), Kind: stmv1.ChangeKind_CHANGE_KIND_SET,
				After: kind.Initial.GetValue(), EntryKind: kind.Initial.GetKind()})
		case *stmv1.WatchResponse_Synced:
			w.after = kind.Synced
			w.client.position.observeVersion(w.store, w.after)
			if !w.synced && w.config.onSynced != nil {
				w.config.onSynced(w.after)
			}
			w.synced = true
			if w.initial {
				w.initial = false
				state.version = w.after
				if over, err := tell(state); over {
					return true, err
				}
			}
		case *stmv1.WatchResponse_Commit:
			if partial == nil {
				partial = &watched{}
			}
			partial.add(kind.Commit)
			if kind.Commit.GetMore() {
				break
			}
			whole := partial
			partial = nil
			w.after = whole.version
			w.client.position.observeVersion(w.store, w.after)
			if over, err := tell(whole); over {
				return true, err
			}
		case *stmv1.WatchResponse_Progress:
			w.after = kind.Progress
			w.client.position.observeVersion(w.store, w.after)
			if w.config.onProgress != nil {
				w.config.onProgress(w.after)
			}
		case *stmv1.WatchResponse_Gap:
			if kind.Gap.GetStore() != 0 {
				w.client.position.adopt(&stmv1.Header{Store: kind.Gap.GetStore(), InstalledVersion: kind.Gap.GetResumeVersion()})
			}
			w.initial = true
			return false, nil
		}
	}
}

func (w *watcher) afterEnd(l *link, err error) (over bool, _ error) {
	if w.ctx.Err() != nil || w.client.ctx.Err() != nil {
		return true, w.end(nil)
	}
	var failed error
	switch {
	case !l.alive():
		failed = unavailable("the connection to " + l.address + " is lost")
	case errors.Is(err, io.EOF):
		failed = unavailable("the daemon ended the watch")
	default:
		failed = errorFromStatus(err, w.client.names)
		detail := detailOf(err)
		switch reason := reasonOf(failed); {
		case reason == ReasonStoreChanged:
			if detail.GetHeader() != nil {
				w.client.position.adopt(detail.GetHeader())
			}
			w.initial = true
		case reason == ReasonSnapshotTooOld:
			w.initial = true
		case detail.GetReason() == stmv1.ErrorReason_ERROR_REASON_SLOW_READER:
			// Cut off as too slow: it goes on after what it was told last.
		case !isTransient(failed):
			return true, failed
		}
	}
	w.out.fail(failed)
	if w.out.over() {
		return true, asUnavailable(failed)
	}
	return false, nil
}

// ---- Records

// Record is a value that a transaction attached, with the commit that it came with.
type Record struct {
	Version       int64
	At            time.Time
	TransactionID string
	Meta          Meta
	Value         any // of a registered type, else Tagged
}

type recordConfig struct {
	from, to int64
	follow   bool
	tags     []string
}

// RecordOption changes which records are read. It is given among the types.
type RecordOption func(*recordConfig)

// From begins at a version, not after it; asked for less than is kept: ErrSnapshotTooOld. Without it, or at 0: the
// oldest kept.
func From(version int64) RecordOption { return func(c *recordConfig) { c.from = version } }

// To ends at a version. Without it, or at 0: the newest.
func To(version int64) RecordOption { return func(c *recordConfig) { c.to = version } }

// Following goes on, after the newest, as commits come, until ctx is done.
func Following() RecordOption { return func(c *recordConfig) { c.follow = true } }

// Tags reads records of these tags; "blog.*" is every tag that begins with "blog.".
func Tags(tags ...string) RecordOption {
	return func(c *recordConfig) { c.tags = append(c.tags, tags...) }
}

// Records reads what transactions attached, from the oldest kept, in order, each once; a lost connection is mended
// unseen, and a range that ends without an error is whole. of: values of the registered types that are wanted
// (CreateUser{}), and RecordOptions; no type and no Tags: all.
func (c *Client) Records(ctx context.Context, of ...any) iter.Seq2[Record, error] {
	return func(yield func(Record, error) bool) {
		if err := c.records(ctx, of, yield); err != nil {
			yield(Record{}, err)
		}
	}
}

func (c *Client) records(ctx context.Context, of []any, yield func(Record, error) bool) error {
	config := recordConfig{}
	types := map[string]reflect.Type{}
	for _, one := range of {
		if option, is := one.(RecordOption); is {
			option(&config)
			continue
		}
		if one == nil {
			return badValue("nil is no type of records: give a value of a registered type, as CreateUser{}")
		}
		registered := registeredType(reflect.TypeOf(one))
		if registered == nil {
			return badValue(fmt.Sprintf("%T is no registered type: register it by stm.Register", one))
		}
		types[registered.tag] = registered.goType
		config.tags = append(config.tags, registered.tag)
	}
	if err := checkOutside(ctx, "reading records"); err != nil {
		return err
	}
	r := &recordReader{client: c, ctx: ctx, config: config, types: types, yield: yield, from: config.from,
		out: outage{limit: c.options.unavailableTimeout}}
	for {
		if config.to != 0 && r.from > config.to {
			return nil
		}
		l, err := c.link(ctx, r.out.giveUpAt(), r.out.cause)
		if err != nil {
			return err
		}
		over, err := r.runOn(l)
		if over {
			return err
		}
		if !c.transport.sleep(ctx, r.out.pause(nil)) {
			return c.stopped(ctx, r.out.cause)
		}
	}
}

type recordReader struct {
	client *Client
	ctx    context.Context
	config recordConfig
	types  map[string]reflect.Type
	yield  func(Record, error) bool
	out    outage
	from   int64
	store  uint64
}

func (r *recordReader) runOn(l *link) (over bool, _ error) {
	ctx, cancel := context.WithCancel(r.ctx)
	defer cancel()
	defer context.AfterFunc(l.ctx, cancel)()
	seen := r.client.position.seen()
	if r.store != 0 {
		seen.Store = r.store
	}
	stream, err := stmv1.NewLogServiceClient(l.conn).
		ReadLog(ctx, &stmv1.ReadLogRequest{FromVersion: r.from, ToVersion: r.config.to,
			Tags: r.config.tags, Follow: r.config.follow, RecordsOnly: true, Seen: seen})
	if err != nil {
		return r.afterEnd(l, err)
	}
	var partial *watched
	for {
		// A follower is told nothing while nothing happens: the link asks a silent daemon.
		l.waiters.Add(1)
		event, err := stream.Recv()
		l.waiters.Add(-1)
		if err != nil {
			return r.afterEnd(l, err)
		}
		l.hear()
		r.out.end()
		if opened := event.GetOpened(); opened != nil {
			r.client.position.observe(opened.GetHeader())
			if r.store != 0 && opened.GetHeader().GetStore() != r.store {
				return true, storeChangedError()
			}
			r.store = opened.GetHeader().GetStore()
			continue
		}
		if event.GetCommit() == nil {
			continue
		}
		if partial == nil {
			partial = &watched{}
		}
		partial.add(event.GetCommit())
		if event.GetCommit().GetMore() {
			continue
		}
		whole := partial
		partial = nil
		r.from = whole.version + 1
		r.client.position.observeVersion(r.store, whole.version)
		for _, wire := range whole.records {
			// A commit has all its records, also those that were not asked for.
			if !r.selected(wire) {
				continue
			}
			record, err := r.recordOf(whole, wire)
			if err != nil {
				return true, err
			}
			if !r.yield(record, nil) {
				return true, nil
			}
		}
	}
}

func (r *recordReader) recordOf(of *watched, wire *stmv1.Value) (Record, error) {
	made := Record{Version: of.version, At: of.commit.GetAt().AsTime(), TransactionID: of.commit.GetTransactionId(),
		Meta: metaOf(of.commit.GetMeta())}
	name := fmt.Sprintf("a record of version %d", of.version)
	var err error
	if goType := r.types[wire.GetTagged().GetTag()]; goType != nil {
		// A type that was asked for is strict: what does not fit it is an error, and no Tagged.
		d := decoder{codec: r.client.codec}
		to := reflect.New(goType).Elem()
		if err := d.decodeInto(wire, to); err != nil {
			return Record{}, ofEntry(name, err)
		}
		made.Value = to.Interface()
		return made, nil
	}
	made.Value, err = r.client.codec.decodeUntyped(name, wire)
	return made, err
}

func (r *recordReader) selected(record *stmv1.Value) bool {
	if len(r.config.tags) == 0 {
		return true
	}
	tag := record.GetTagged().GetTag()
	for _, wanted := range r.config.tags {
		if begin, all := strings.CutSuffix(wanted, "*"); wanted == tag ||
			all && strings.HasSuffix(begin, ".") && strings.HasPrefix(tag, begin) {
			return true
		}
	}
	return false
}

func (r *recordReader) afterEnd(l *link, err error) (over bool, _ error) {
	if r.ctx.Err() != nil || r.client.ctx.Err() != nil {
		return true, r.client.stopped(r.ctx, nil)
	}
	var failed error
	switch {
	case errors.Is(err, io.EOF) && !r.config.follow:
		return true, nil
	case !l.alive():
		failed = unavailable("the connection to " + l.address + " is lost")
	case errors.Is(err, io.EOF):
		failed = unavailable("the daemon ended the log")
	default:
		failed = errorFromStatus(err, r.client.names)
		if detailOf(err).GetReason() != stmv1.ErrorReason_ERROR_REASON_SLOW_READER && !isTransient(failed) {
			return true, failed
		}
	}
	r.out.fail(failed)
	if r.out.over() {
		return true, asUnavailable(failed)
	}
	return false, nil
}
