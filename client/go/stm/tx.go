package stm

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sort"
	"sync/atomic"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/durationpb"

	"stmd.dev/client/go/internal/stmv1"
)

// Tx is a running transaction, as its body sees it: all reads are of one snapshot, writes are seen by later reads of
// the same body, and nothing is visible to others until the commit. The body may run several times: it is a function of
// what it reads. What leaves a body early (a read that failed, a conflict, Retry) is a panic that Transact recovers; a
// body that recovers it itself is abandoned all the same. A Tx belongs to its body's goroutine, and panics with an
// *Error, ErrTransactionClosed, once the body has returned.
type Tx struct {
	client *Client
	config *transactConfig
	ctx    context.Context
	run    int

	open      atomic.Bool
	signal    signal
	signalErr error

	snapshot    int64 // 0: nothing was read yet
	store       uint64
	cache       map[string]*stmv1.Entry // at snapshot, by the client's names
	wanted      []string                // what the last run read: fetched together with the first that is missing
	reads       []string
	readSet     map[string]bool
	lists       []string
	ensures     []string
	listed      map[string][]*stmv1.Entry // whole, by prefix
	listedNames map[string][]*stmv1.Entry
	writes      map[string]*written
	order       []string // of writes
	records     []*stmv1.Value
	fences      []*grant
	handedOn    []*stmv1.Fence // of others' grants
	onCommit    []func(Committed)
	marks       []mark
	kept        keptFields
}

type signal int

const (
	signalNone  signal = iota
	signalRetry        // sleep until something that was read changes
	signalRerun        // the snapshot is of no use any more: signalErr says why
	signalFail         // signalErr
)

// abandoned leaves a body.
type abandoned struct{}

func (abandoned) String() string {
	return "a stm transaction's body was left early; stm's Transact recovers this: use a Tx in its body's goroutine alone"
}

type base int

const (
	baseNone base = iota
	baseSet
	baseDelete
)

// written is what is to become of one entry.
type written struct {
	atom       bool
	create     *stmv1.Value // first of all, if the entry is absent
	base       base
	value      *stmv1.Value // of baseSet
	ops        []*stmv1.Operation
	results    []*CommuteResult // one an op
	definition *Definition      // of a new entry
	define     *Definition
	asked      bool         // seen holds
	seen       *stmv1.Value // as the daemon says it is after all this; no kind: absent
	handle     *handle      // told of existence
}

// mark is what a return goes back to.
type mark struct {
	writes   map[string]written
	order    []string
	records  int
	onCommit int
}

// carried is what a run leaves to the next: entries known to be so at snapshot.
type carried struct {
	snapshot int64 // 0: nothing is known, the next run takes a new snapshot
	store    uint64
	fresh    map[string]*stmv1.Entry
	wanted   []string
}

// CommuteResult is what an operation will have resulted in, once its transaction is committed.
type CommuteResult struct {
	client *Client
	name   string
	wire   *stmv1.Value
}

// Value is the operation's result, and whether it is known: not before the commit, nor if the answer was lost with a
// broken connection and is no longer kept.
func (r *CommuteResult) Value() (any, bool) {
	if r.wire.GetKind() == nil {
		return nil, false
	}
	value, err := r.client.codec.decodeUntyped(r.name, r.wire)
	return value, err == nil
}

type txKey struct{}

// bodyOf is the transaction whose body ctx is of; nil: none that runs.
func bodyOf(ctx context.Context) *Tx {
	tx, _ := ctx.Value(txKey{}).(*Tx)
	if tx == nil || !tx.open.Load() {
		return nil
	}
	return tx
}

// checkOutside is ErrInTransaction inside a body.
func checkOutside(ctx context.Context, what string) error {
	if bodyOf(ctx) == nil {
		return nil
	}
	return inTransaction(what, "do it before or after, or by tx.OnCommit; a body reads and writes by its tx")
}

func inTransaction(what, remedy string) error {
	return &Error{Reason: ReasonInTransaction, Name: what, code: codes.FailedPrecondition,
		Message: what + " inside a transaction's body, which may run several times: " + remedy}
}

// IO marks code that must not run in a transaction, because a rerun would repeat it: inside a body, which ctx is of, it
// ends the transaction with ErrInTransaction.
func IO(ctx context.Context) {
	if tx := bodyOf(ctx); tx != nil {
		tx.enter()
		tx.raise(signalFail, checkOutside(ctx, "stm.IO"))
	}
}

func newTx(ctx context.Context, client *Client, config *transactConfig, run int, from carried) *Tx {
	tx := &Tx{client: client, config: config, ctx: ctx, run: run, wanted: from.wanted}
	if from.snapshot != 0 {
		tx.snapshot, tx.store, tx.cache = from.snapshot, from.store, from.fresh
	}
	if tx.cache == nil {
		tx.cache = map[string]*stmv1.Entry{}
	}
	return tx
}

// runBody calls body with this run, then closes it. A body's own panic goes on, unless a signal was raised: what the
// body made of an abandoned run counts for nothing.
func (tx *Tx) runBody(body func(context.Context, *Tx) error) (err error) {
	tx.open.Store(true)
	defer func() {
		tx.open.Store(false)
		if tx.signal != signalNone {
			_ = recover()
		}
	}()
	return body(context.WithValue(tx.ctx, txKey{}, tx), tx)
}

func (tx *Tx) enter() {
	if !tx.open.Load() {
		panic(&Error{Reason: ReasonTransactionClosed, code: codes.FailedPrecondition,
			Message: "a Tx was used after its body had ended: use it inside the body alone"})
	}
	tx.checkSignal()
}

// checkSignal raises the signal again, if there is one.
func (tx *Tx) checkSignal() {
	if tx.signal != signalNone {
		panic(abandoned{})
	}
}

func (tx *Tx) raise(signal signal, err error) {
	tx.signal, tx.signalErr = signal, err
	panic(abandoned{})
}

func (tx *Tx) fail(err error) { tx.raise(signalFail, err) }

// raiseFor is of a failed read: it runs again, or fails.
func (tx *Tx) raiseFor(err error) {
	switch reasonOf(err) {
	case ReasonSnapshotTooOld, ReasonStoreChanged:
		tx.raise(signalRerun, err)
	}
	tx.fail(err)
}

func (tx *Tx) readPoint() *stmv1.ReadPoint {
	at := &stmv1.ReadPoint{Seen: tx.client.position.seen()}
	if tx.snapshot != 0 {
		at.At = &stmv1.ReadPoint_Version{Version: tx.snapshot}
		at.Seen.Store = tx.store
	} else if tx.config.staleOK {
		at.At = &stmv1.ReadPoint_Stale{Stale: true}
	}
	return at
}

func (tx *Tx) takeSnapshot(header *stmv1.Header, snapshot int64) {
	if tx.snapshot == 0 {
		tx.snapshot, tx.store = snapshot, header.GetStore()
	}
}

// fetch is one entry of the snapshot.
func (tx *Tx) fetch(name string) *stmv1.Entry {
	if entry := tx.cache[name]; entry != nil {
		return entry
	}
	if err := checkName(name); err != nil {
		tx.fail(err)
	}
	all := []string{name}
	for _, wanted := range tx.wanted {
		if wanted != name && tx.cache[wanted] == nil {
			all = append(all, wanted)
		}
	}
	tx.wanted = nil
	answer, err := tx.client.ask(tx.ctx, func(call *stmv1.PipelineCall) {
		get := &stmv1.GetRefsRequest{At: tx.readPoint()}
		for _, one := range all {
			get.Names = append(get.Names, tx.client.names.full(one))
		}
		call.Request = &stmv1.PipelineCall_Get{Get: get}
	})
	if err != nil {
		tx.raiseFor(err)
	}
	got := answer.GetGet()
	tx.takeSnapshot(got.GetHeader(), got.GetSnapshot())
	for i, entry := range got.GetEntries() {
		if i < len(all) {
			tx.cache[all[i]] = entry
		}
	}
	entry := tx.cache[name]
	if entry == nil {
		tx.fail(internalError(name + ": the daemon's answer lacks it: report this"))
	}
	return entry
}

func (tx *Tx) addRead(name string) {
	if tx.readSet[name] {
		return
	}
	if tx.readSet == nil {
		tx.readSet = map[string]bool{}
	}
	tx.readSet[name] = true
	tx.reads = append(tx.reads, name)
}

func isAtom(entry *stmv1.Entry) bool { return entry.GetKind() == stmv1.EntryKind_ENTRY_KIND_ATOM }

func wrongKind(name string, isAtom bool) error {
	message := name + " is a ref and was used as an atom: use stm.NewRef"
	if isAtom {
		message = name + " is an atom and was used as a ref: use stm.NewAtom"
	}
	return &Error{Reason: ReasonWrongKind, Name: name, Message: message, code: codes.FailedPrecondition}
}

func exists(value *stmv1.Value) bool { return value.GetKind() != nil }

func (tx *Tx) fetchOf(h *handle) *stmv1.Entry {
	entry := tx.fetch(h.name)
	tx.addRead(h.name)
	if exists(entry.GetValue()) {
		if isAtom(entry) != h.atom {
			tx.fail(wrongKind(h.name, isAtom(entry)))
		}
		h.exists.Store(true)
	}
	return entry
}

// read is nil for an absent entry.
func (tx *Tx) read(h *handle) *stmv1.Value {
	tx.enterHandle(h)
	w := tx.writes[h.name]
	switch {
	case w == nil:
		return present(tx.fetchOf(h).GetValue())
	case len(w.ops) > 0:
		return tx.readAfterWrites(h, w)
	case w.base == baseSet:
		return w.value
	case w.base == baseDelete:
		return nil
	}
	if value := present(tx.fetchOf(h).GetValue()); value != nil {
		return value
	}
	return w.create
}

func present(value *stmv1.Value) *stmv1.Value {
	if !exists(value) {
		return nil
	}
	return value
}

func (tx *Tx) enterHandle(h *handle) {
	tx.enter()
	if h.client != tx.client {
		tx.fail(
			inTransaction(
				"a handle of another client ("+h.name+")",
				"one transaction is of one daemon: use handles of its client",
			),
		)
	}
	if h.wrong != nil {
		tx.fail(h.wrong)
	}
}

func (tx *Tx) readOrInit(h *handle) *stmv1.Value {
	if value := tx.read(h); value != nil {
		return value
	}
	if h.init == nil {
		tx.fail(absentError(h.name))
	}
	// A deleted entry is made again by its init; an atom is not written in transactions, and left absent.
	if !h.atom {
		w := tx.writeTo(h)
		if w.base == baseDelete {
			w.base, w.value = baseSet, h.init
		} else {
			w.create, w.handle = h.init, h
		}
	}
	return h.init
}

func (tx *Tx) readAfterWrites(h *handle, w *written) *stmv1.Value {
	if w.asked {
		return w.seen
	}
	// Whether the entry exists is the daemon's to know: with the create, the answer is right in both cases.
	if w.base == baseNone && h.init != nil {
		w.create = h.init
	}
	answer, err := tx.client.ask(tx.ctx, func(call *stmv1.PipelineCall) {
		get := &stmv1.GetRefsRequest{Names: []string{tx.client.names.full(h.name)}, At: tx.readPoint()}
		get.Pending = tx.appendWrites(nil, h.name, w, "")
		call.Request = &stmv1.PipelineCall_Get{Get: get}
	})
	if err != nil {
		tx.raiseFor(err)
	}
	got := answer.GetGet()
	tx.takeSnapshot(got.GetHeader(), got.GetSnapshot())
	tx.addRead(h.name)
	if len(got.GetEntries()) != 1 {
		tx.fail(internalError(h.name + ": the daemon's answer lacks it: report this"))
	}
	w.asked, w.seen = true, present(got.GetEntries()[0].GetValue())
	return w.seen
}

func (tx *Tx) writeTo(h *handle) *written {
	if w := tx.writes[h.name]; w != nil {
		return w
	}
	if err := checkName(h.name); err != nil {
		tx.fail(err)
	}
	if tx.writes == nil {
		tx.writes = map[string]*written{}
	}
	w := &written{atom: h.atom, definition: h.definition}
	tx.writes[h.name] = w
	tx.order = append(tx.order, h.name)
	return w
}

func (tx *Tx) checkAlter(h *handle) {
	tx.enterHandle(h)
	if w := tx.writes[h.name]; w != nil && len(w.ops) > 0 {
		tx.fail(
			ofEntry(
				h.name,
				badValue("set or alter after commute in one transaction: the commute would be lost or pinned; "+
					"alter it alone, or commute it alone"),
			),
		)
	}
}

func (tx *Tx) write(h *handle, value *stmv1.Value) {
	tx.checkAlter(h)
	w := tx.writeTo(h)
	w.base, w.create, w.value = baseSet, nil, tx.kept.restore(h.name, value)
}

// encode is of what the body writes to an entry.
func (tx *Tx) encode(h *handle, value any) *stmv1.Value {
	wire, err := tx.client.codec.encode(value)
	if err != nil {
		tx.enter()
		tx.fail(ofEntry(h.name, err))
	}
	return wire
}

func (tx *Tx) apply(h *handle, op Op) *CommuteResult {
	tx.enterHandle(h)
	wire, err := op.wire(tx.client.codec)
	if err != nil {
		tx.fail(ofEntry(h.name, err))
	}
	w := tx.writeTo(h)
	if w.base == baseNone && w.create == nil && h.init != nil {
		w.handle = h
		if !h.exists.Load() {
			w.create = h.init
		}
	}
	result := &CommuteResult{client: tx.client, name: h.name}
	w.ops, w.results = append(w.ops, wire), append(w.results, result)
	w.asked, w.seen = false, nil
	return result
}

func (tx *Tx) ensure(h *handle) {
	tx.enterHandle(h)
	tx.fetchOf(h)
	if !slices.Contains(tx.ensures, h.name) {
		tx.ensures = append(tx.ensures, h.name)
	}
}

func (tx *Tx) erase(h *handle) {
	tx.enterHandle(h)
	w := tx.writeTo(h)
	*w = written{atom: w.atom, definition: w.definition, base: baseDelete}
}

func (tx *Tx) define(h *handle, definition Definition) {
	tx.enterHandle(h)
	if _, err := definition.wire(tx.client.codec, ""); err != nil {
		tx.fail(ofEntry(h.name, err))
	}
	tx.writeTo(h).define = &definition
}

// take reads a value as the body wants it.
func take[T any](tx *Tx, h *handle, value *stmv1.Value) T {
	made, lossy, err := decodeAs[T](tx.client.codec, h.name, value)
	if err != nil {
		tx.fail(err)
	}
	if lossy {
		if known, err := tx.client.codec.encode(made); err == nil {
			tx.kept.keep(h.name, value, known)
		}
	}
	return made
}

func (tx *Tx) listPages(prefix string, namesOnly bool) []*stmv1.Entry {
	entries, err := pagesOf(func(token string) (*stmv1.ListRefsResponse, error) {
		answer, err := tx.client.ask(tx.ctx, func(call *stmv1.PipelineCall) {
			call.Request = &stmv1.PipelineCall_List{List: &stmv1.ListRefsRequest{Prefix: tx.client.names.full(prefix),
				NamesOnly: namesOnly, PageToken: token, At: tx.readPoint()}}
		})
		if err == nil {
			tx.takeSnapshot(answer.GetList().GetHeader(), answer.GetList().GetSnapshot())
		}
		return answer.GetList(), err
	})
	if err != nil {
		tx.raiseFor(err)
	}
	return entries
}

// pagesOf is a listing, whole.
func pagesOf(page func(token string) (*stmv1.ListRefsResponse, error)) ([]*stmv1.Entry, error) {
	var entries []*stmv1.Entry
	token := ""
	for {
		answer, err := page(token)
		if err != nil {
			return nil, err
		}
		entries = append(entries, answer.GetEntries()...)
		if token = answer.GetNextPageToken(); token == "" {
			return entries, nil
		}
	}
}

func (tx *Tx) addList(prefix string) {
	if !slices.Contains(tx.lists, prefix) {
		tx.lists = append(tx.lists, prefix)
	}
}

// List is what is there under a prefix ("/jobs/"), by name, with what the body wrote. What comes or goes there before
// the commit is a conflict.
func (tx *Tx) List(prefix string) []Entry {
	tx.enter()
	if err := checkPrefix(prefix); err != nil {
		tx.fail(err)
	}
	listed, known := tx.listed[prefix]
	if !known {
		listed = tx.listPages(prefix, false)
		if tx.listed == nil {
			tx.listed = map[string][]*stmv1.Entry{}
		}
		tx.listed[prefix] = listed
		tx.addList(prefix)
		for _, entry := range listed {
			name := tx.client.names.short(entry.GetName())
			tx.cache[name] = entry
			tx.addRead(name)
		}
	}
	all := map[string]Entry{}
	put := func(name string, value *stmv1.Value, atom bool, version int64) {
		made, err := tx.client.codec.decodeUntyped(name, value)
		if err != nil {
			tx.fail(err)
		}
		all[name] = Entry{Name: name, Value: made, Version: version, IsAtom: atom}
	}
	for _, entry := range listed {
		put(tx.client.names.short(entry.GetName()), entry.GetValue(), isAtom(entry), entry.GetVersion())
	}
	// What this body wrote lies over what is there.
	for _, name := range tx.order {
		if !underPrefix(name, prefix) {
			continue
		}
		w := tx.writes[name]
		if value := tx.read(&handle{client: tx.client, name: name, atom: w.atom}); value != nil {
			put(name, value, w.atom, all[name].Version)
		} else {
			delete(all, name)
		}
	}
	return sortedEntries(all)
}

func sortedEntries(all map[string]Entry) []Entry {
	entries := slices.Collect(maps.Values(all))
	sort.Slice(entries, func(i, j int) bool { return entries[i].Name < entries[j].Name })
	return entries
}

// Names is List without values, which are not read.
func (tx *Tx) Names(prefix string) []string {
	tx.enter()
	if err := checkPrefix(prefix); err != nil {
		tx.fail(err)
	}
	listed, known := tx.listedNames[prefix]
	if !known {
		listed = tx.listPages(prefix, true)
		if tx.listedNames == nil {
			tx.listedNames = map[string][]*stmv1.Entry{}
		}
		tx.listedNames[prefix] = listed
		tx.addList(prefix)
	}
	all := map[string]bool{}
	for _, entry := range listed {
		all[tx.client.names.short(entry.GetName())] = true
	}
	for _, name := range tx.order {
		if !underPrefix(name, prefix) {
			continue
		}
		w := tx.writes[name]
		if w.base == baseDelete && len(w.ops) == 0 {
			delete(all, name)
		} else if w.base == baseSet || w.create != nil {
			all[name] = true
		}
	}
	return slices.Sorted(maps.Keys(all))
}

// Record attaches a value of a registered type, or a Tagged, that says what this transaction is about; it is kept in
// the log with the commit.
func (tx *Tx) Record(record any) {
	tx.enter()
	wire, err := tx.client.codec.encode(record)
	if err != nil {
		tx.fail(err)
	}
	if wire.GetTagged() == nil {
		tx.fail(
			badValue(
				fmt.Sprintf(
					"a record is a tagged value, not a %T: give its type a tag by stm.Register, or record a stm.Tagged",
					record,
				),
			),
		)
	}
	tx.records = append(tx.records, wire)
}

// Fence lets this transaction commit only while the grant stands, else it is ErrLockLost: also one that only reads. A
// grant that is lost already ends the body at once.
func (tx *Tx) Fence(held *Held) {
	tx.enter()
	if held.grant.over() {
		tx.fail(lockLostError(held.grant.name, "is gone"))
	}
	tx.fences = append(tx.fences, held.grant)
}

// FenceToken fences by a grant that another client holds and handed on, as `stmctl lock` does by STM_LOCK and
// STM_LOCK_TOKEN: the daemon alone knows whether it stands.
func (tx *Tx) FenceToken(lock string, token int64) {
	tx.enter()
	if err := checkName(lock); err != nil {
		tx.fail(err)
	}
	if token <= 0 {
		tx.fail(
			ofEntry(
				lock,
				badValue(
					fmt.Sprintf("%d is no token of a lock, which are above 0: give the one that its holder has", token),
				),
			),
		)
	}
	tx.handedOn = append(tx.handedOn, &stmv1.Fence{Lock: tx.client.names.full(lock), Token: token})
}

// Retry abandons this run, sleeps until something that was read has changed, and runs the body again. It does not
// return.
func (tx *Tx) Retry() {
	tx.enter()
	if !tx.hasReads() {
		tx.fail(badValue("retry with nothing read would sleep for ever: read what it waits for first"))
	}
	tx.raise(signalRetry, nil)
}

// OrElse runs first; where that retries, second instead. What first wrote is dropped, what it read still counts.
func (tx *Tx) OrElse(first, second func()) {
	at := tx.setMark()
	if tx.retries(at, first) {
		second()
	}
}

// retries runs one way, and takes its retry back.
func (tx *Tx) retries(at int, way func()) (retried bool) {
	ended := false
	defer func() {
		if tx.signal == signalRetry {
			_ = recover()
			tx.signal, tx.signalErr = signalNone, nil
			tx.returnTo(at)
			retried = true
			return
		}
		tx.dropMark(at)
		if ended {
			tx.checkSignal()
		}
	}()
	way()
	ended = true
	return false
}

// OnCommit has f called once, when the commit is durable; never for a run that was abandoned.
func (tx *Tx) OnCommit(f func(Committed)) {
	tx.enter()
	tx.onCommit = append(tx.onCommit, f)
}

// Run is this run's number, from 1.
func (tx *Tx) Run() int { return tx.run }

func (tx *Tx) setMark() int {
	tx.enter()
	writes := make(map[string]written, len(tx.writes))
	for name, w := range tx.writes {
		writes[name] = *w
	}
	tx.marks = append(
		tx.marks,
		mark{writes: writes, order: slices.Clone(tx.order), records: len(tx.records), onCommit: len(tx.onCommit)},
	)
	return len(tx.marks) - 1
}

func (tx *Tx) dropMark(at int) { tx.marks = tx.marks[:min(at, len(tx.marks))] }

// returnTo goes back to the mark: what was written since is dropped, what was read stays.
func (tx *Tx) returnTo(at int) {
	to := tx.marks[at]
	tx.writes = make(map[string]*written, len(to.writes))
	for name, w := range to.writes {
		tx.writes[name] = &w
	}
	tx.order, tx.records, tx.onCommit = to.order, tx.records[:to.records], tx.onCommit[:to.onCommit]
	tx.dropMark(at)
}

// readOnce is /.once/KEY, read like any entry of this snapshot; nil: absent, or a signal was raised.
func (tx *Tx) readOnce(name string) (found *stmv1.Entry) {
	_ = tx.runBody(func(context.Context, *Tx) error {
		entry := tx.fetch(name)
		tx.addRead(name)
		if exists(entry.GetValue()) {
			found = entry
		}
		return nil
	})
	return found
}

func (tx *Tx) writeOnce(name string, result *stmv1.Value, ttl time.Duration) {
	if tx.writes == nil {
		tx.writes = map[string]*written{}
	}
	if tx.writes[name] == nil {
		tx.order = append(tx.order, name)
	}
	tx.writes[name] = &written{base: baseSet, value: result, definition: &Definition{TTL: ttl}}
}

func (tx *Tx) hasReads() bool { return len(tx.reads) > 0 || len(tx.lists) > 0 }

func (tx *Tx) needsCommit() bool {
	return len(tx.writes) > 0 || len(tx.records) > 0 || len(tx.fences) > 0 || len(tx.handedOn) > 0 ||
		tx.config.staleOK && tx.hasReads()
}

// needsSession says whether it makes an entry that is bound to the client's session.
func (tx *Tx) needsSession() bool {
	for _, w := range tx.writes {
		if w.definition != nil && w.definition.Ephemeral || w.define != nil && w.define.Ephemeral {
			return true
		}
	}
	return false
}

func (tx *Tx) checkFences() error {
	for _, one := range tx.fences {
		if one.over() {
			return lockLostError(one.name, "is gone")
		}
	}
	return nil
}

// appendWrites adds what is to become of one entry. session: of ephemeral entries; "" where nothing is made by it.
func (tx *Tx) appendWrites(to []*stmv1.Write, name string, w *written, session string) []*stmv1.Write {
	full := tx.client.names.full(name)
	kind := stmv1.EntryKind_ENTRY_KIND_REF
	if w.atom {
		kind = stmv1.EntryKind_ENTRY_KIND_ATOM
	}
	begin := func() *stmv1.Write {
		write := &stmv1.Write{Name: full, Kind: kind}
		if w.definition != nil {
			write.Definition, _ = w.definition.wire(tx.client.codec, session) // checked when the handle was made
		}
		to = append(to, write)
		return write
	}
	plain := func() *stmv1.Write {
		write := &stmv1.Write{Name: full, Kind: kind}
		to = append(to, write)
		return write
	}
	if w.base == baseNone && w.create != nil {
		begin().Change = &stmv1.Write_Create{Create: w.create}
	}
	switch w.base {
	case baseSet:
		begin().Change = &stmv1.Write_Set{Set: w.value}
	case baseDelete:
		plain().Change = &stmv1.Write_DeleteEntry{DeleteEntry: true}
	}
	for _, op := range w.ops {
		begin().Change = &stmv1.Write_Apply{Apply: op}
	}
	if w.define != nil {
		define, _ := w.define.wire(tx.client.codec, session) // checked when the body gave it
		plain().Change = &stmv1.Write_Define{Define: define}
	}
	return to
}

func (tx *Tx) fullNames(all []string) []string {
	if tx.client.names.prefix == "" {
		return all
	}
	full := make([]string, len(all))
	for i, name := range all {
		full[i] = tx.client.names.full(name)
	}
	return full
}

// commitRequest is all but id, meta and age. session: of ephemeral entries.
func (tx *Tx) commitRequest(session string) *stmv1.CommitRequest {
	request := &stmv1.CommitRequest{Isolation: stmv1.Isolation_ISOLATION_SERIALIZABLE, Reads: tx.fullNames(tx.reads),
		Lists: tx.fullNames(tx.lists), Records: tx.records}
	if tx.hasReads() {
		request.Snapshot = tx.snapshot
	}
	if tx.config.snapshotIsolation {
		request.Isolation = stmv1.Isolation_ISOLATION_SNAPSHOT
		request.Ensures = tx.fullNames(tx.ensures)
	}
	for _, name := range tx.order {
		request.Writes = tx.appendWrites(request.Writes, name, tx.writes[name], session)
	}
	for _, one := range tx.fences {
		request.Fences = append(request.Fences, &stmv1.Fence{Lock: one.lock, Token: one.tokenNow()})
	}
	request.Fences = append(request.Fences, tx.handedOn...)
	return request
}

func (tx *Tx) awaitRequest(reservation uint64) *stmv1.AwaitChangeRequest {
	seen := tx.client.position.seen()
	seen.Store = tx.store
	return &stmv1.AwaitChangeRequest{
		Seen:        seen,
		Snapshot:    tx.snapshot,
		Reads:       tx.fullNames(tx.reads),
		Lists:       tx.fullNames(tx.lists),
		Reservation: reservation,
	}
}

func (tx *Tx) carry() carried { return carried{wanted: tx.reads} }

// carrySame is the same snapshot and values, for a second run of the body on them.
func (tx *Tx) carrySame() carried {
	return carried{snapshot: tx.snapshot, store: tx.store, fresh: maps.Clone(tx.cache)}
}

// committed gives results to their commutes, hints to their handles.
func (tx *Tx) committed(committed *stmv1.Committed) {
	// Results go by the writes as they were sent; none at all when there are only sets, deletes and defines.
	at := 0
	next := func() *stmv1.Value {
		at++
		if at > len(committed.GetResults()) {
			return nil
		}
		return committed.GetResults()[at-1]
	}
	for _, name := range tx.order {
		w := tx.writes[name]
		if w.base == baseNone && w.create != nil {
			next()
		}
		if w.base != baseNone {
			next()
		}
		for _, result := range w.results {
			result.wire = next()
		}
		if w.define != nil {
			next()
		}
		if w.handle != nil {
			w.handle.exists.Store(true)
		}
	}
}

// callAll calls all, also after one that panics, whose panic goes on.
func callAll(all []func(Committed), committed Committed) {
	for i, f := range all {
		func() {
			ended := false
			defer func() {
				if !ended {
					callAll(all[i+1:], committed)
				}
			}()
			f(committed)
			ended = true
		}()
	}
}

// forgetExistence is of an operation that met an absent entry which was thought to exist: true if a rerun that creates
// it may help.
func (tx *Tx) forgetExistence(name string) bool {
	w := tx.writes[name]
	if w == nil || w.handle == nil || w.create != nil {
		return false
	}
	w.handle.exists.Store(false)
	return true
}

// lines are what was read, written and recorded, for RerunCheck.
func (tx *Tx) lines() []string {
	var lines []string
	add := func(words ...string) {
		line := words[0]
		for _, word := range words[1:] {
			line += " " + word
		}
		lines = append(lines, line)
	}
	for _, name := range slices.Sorted(maps.Keys(tx.readSet)) {
		add("read", name)
	}
	for _, prefix := range tx.lists {
		add("list", prefix)
	}
	for _, name := range tx.ensures {
		add("ensure", name)
	}
	for _, name := range tx.order {
		for _, write := range tx.appendWrites(nil, name, tx.writes[name], "ours") {
			add(describeWrite(name, write))
		}
	}
	for _, record := range tx.records {
		add("record", edn(record))
	}
	for _, one := range tx.fences {
		add("fence", one.name, fmt.Sprint(one.tokenNow()))
	}
	for _, one := range tx.handedOn {
		add("fence", tx.client.names.short(one.GetLock()), fmt.Sprint(one.GetToken()))
	}
	switch tx.signal {
	case signalRetry:
		add("retry")
	case signalFail:
		add("fail:", messageOf(tx.signalErr))
	}
	return lines
}

func describeWrite(name string, write *stmv1.Write) string {
	switch change := write.GetChange().(type) {
	case *stmv1.Write_Create:
		return "create " + name + " " + edn(change.Create)
	case *stmv1.Write_Set:
		return "set " + name + " " + edn(change.Set)
	case *stmv1.Write_DeleteEntry:
		return "delete " + name
	case *stmv1.Write_Apply:
		return "commute " + name + " " + describeOp(change.Apply)
	case *stmv1.Write_Define:
		define := change.Define
		return fmt.Sprintf("define %s validator %s, TTL %v, session %q", name, edn(define.GetValidator()), define.GetTtl().AsDuration(),
			define.GetSessionId())
	}
	return "write " + name
}

// describeOp is the same text for the same operation: protobuf's own text is not the same each time.
func describeOp(op *stmv1.Operation) string {
	items := func(verb string, values []*stmv1.Value) string {
		for _, value := range values {
			verb += " " + edn(value)
		}
		return verb
	}
	text := ""
	switch kind := op.GetOperation().(type) {
	case *stmv1.Operation_Set:
		text = "set " + edn(kind.Set)
	case *stmv1.Operation_Add:
		text = "add " + edn(kind.Add)
	case *stmv1.Operation_Min:
		text = "min " + edn(kind.Min)
	case *stmv1.Operation_Max:
		text = "max " + edn(kind.Max)
	case *stmv1.Operation_Append:
		text = "append " + edn(kind.Append)
	case *stmv1.Operation_Conj:
		text = items("conj", kind.Conj.GetItems())
	case *stmv1.Operation_Disj:
		text = items("disj", kind.Disj.GetItems())
	case *stmv1.Operation_Dissoc:
		text = items("dissoc", kind.Dissoc.GetItems())
	case *stmv1.Operation_Pop:
		text = fmt.Sprint("pop ", kind.Pop)
	case *stmv1.Operation_Shift:
		text = fmt.Sprint("shift ", kind.Shift)
	case *stmv1.Operation_Assoc:
		text = "assoc " + edn(&stmv1.Value{Kind: &stmv1.Value_Map{Map: kind.Assoc}})
	case *stmv1.Operation_Toggle:
		text = "toggle"
	case *stmv1.Operation_CompareAndSet:
		text = "compare-and-set " + edn(kind.CompareAndSet.GetExpected()) + " " + edn(kind.CompareAndSet.GetValue())
	}
	if len(op.GetPath()) > 0 {
		text += items(" at", op.GetPath())
	}
	return text
}

// wire is the daemon's form. session: of ephemeral entries.
func (d Definition) wire(c codec, session string) (*stmv1.Definition, error) {
	made := &stmv1.Definition{Container: d.Container}
	switch rule := d.Validator.(type) {
	case nil:
	case EDN:
		made.Validator = &stmv1.Value{Kind: &stmv1.Value_Edn{Edn: string(rule)}}
	default:
		wire, err := c.encode(rule)
		if err != nil {
			return nil, within(err, "the validator")
		}
		made.Validator = wire
	}
	if d.TTL < 0 {
		return nil, badValue(fmt.Sprintf("a TTL of %v: write 0 for ever, or at least 1ms", d.TTL))
	}
	if d.TTL > 0 {
		made.Ttl = durationpb.New(d.TTL)
	}
	if d.Ephemeral {
		made.SessionId = session
	}
	return made, nil
}

var errNoTx = errors.New("stm: Transact needs a body")
