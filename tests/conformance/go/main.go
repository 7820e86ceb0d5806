// The driver plays what tests/conformance/play.py says by the Go client: a command a line on standard input, answers
// and events a line each on standard output (README.md there has the words). Each command has a goroutine of its own.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	health "google.golang.org/grpc/health/grpc_health_v1"

	"stmd.dev/client/go/stm"
)

var outMutex sync.Mutex

func say(line object) {
	text, err := json.Marshal(line)
	if err != nil {
		panic(err)
	}
	outMutex.Lock()
	defer outMutex.Unlock()
	_, _ = os.Stdout.Write(append(text, '\n')) // who does not read it has ended
}

// bodyFailed is a body's own error.
type bodyFailed struct{ text string }

func (b bodyFailed) Error() string { return b.text }

func errorOf(err error) object {
	made := object{
		"reason":  "other",
		"message": err.Error(),
		"name":    "",
		"limit":   "",
		"word":    "",
		"cause":   "",
		"causes":  []any{},
	}
	var whole *stm.Error
	var own bodyFailed
	switch {
	case errors.As(err, &own):
		made["reason"], made["message"] = "body", own.text
	case errors.As(err, &whole):
		if whole.Reason != "" {
			made["reason"] = string(whole.Reason)
		}
		made["message"], made["name"], made["limit"] = whole.Message, whole.Name, whole.Limit
		made["word"], made["cause"] = whole.OutcomeWord, whole.Cause
		causes := []any{}
		for _, cause := range whole.Causes {
			causes = append(causes, []any{cause.Name, cause.By.Label, cause.By.Client})
		}
		made["causes"] = causes
	case errors.Is(err, context.DeadlineExceeded):
		made["reason"] = "deadline"
	case errors.Is(err, context.Canceled), errors.Is(err, stm.ErrClosed):
		made["reason"] = "cancelled"
	}
	return made
}

func reasonOf(err error) string { return errorOf(err)["reason"].(string) }

func commitOf(commit stm.Commit) object {
	changes, records := []any{}, []any{}
	for _, change := range commit.Changes {
		changes = append(changes, []any{change.Name, out(change.Before), out(change.After)})
	}
	for _, record := range commit.Records {
		records = append(records, out(record))
	}
	return object{
		"version": wide(commit.Version),
		"initial": commit.Initial,
		"label":   commit.Meta.Label,
		"by":      commit.Meta.Client,
		"changes": changes,
		"records": records,
	}
}

func entriesOf(entries []stm.Entry) []any {
	made := []any{}
	for _, entry := range entries {
		made = append(made, []any{entry.Name, out(entry.Value)})
	}
	return made
}

// command is one line.
type command struct{ object }

func (c command) text(name string) string { s, _ := c.object[name].(string); return s }
func (c command) flag(name string) bool   { b, _ := c.object[name].(bool); return b }
func (c command) has(name string) bool    { return c.object[name] != nil }
func (c command) at(name string) any {
	if !c.has(name) {
		panic(broken{"the command lacks " + name})
	}
	return c.object[name]
}
func (c command) number(name string) int64 {
	if !c.has(name) {
		return 0
	}
	return integer(c.object[name])
}
func (c command) millis(name string) time.Duration {
	return time.Duration(c.number(name)) * time.Millisecond
}
func (c command) texts(name string) []string {
	made := []string{}
	for _, one := range list(c.object[name]) {
		made = append(made, one.(string))
	}
	return made
}
func (c command) inits() []any {
	if !c.has("init") {
		return nil
	}
	return []any{native(c.object["init"])}
}
func (c command) definition() (stm.Definition, bool) {
	made := stm.Definition{TTL: c.millis("ttl_ms"), Ephemeral: c.flag("ephemeral")}
	if c.has("validator") {
		made.Validator = native(c.object["validator"])
	}
	return made, c.has("validator") || c.has("ttl_ms") || c.flag("ephemeral")
}

// running is a command that is under way.
type running struct {
	cancel context.CancelFunc
	going  chan struct{} // one for each "go"
	ended  chan struct{} // closed when no more "go" is waited for
}

type heldBy struct {
	client string
	held   *stm.Held
}

type player struct {
	mu      sync.Mutex
	clients map[string]*stm.Client
	conns   map[string]*grpc.ClientConn // of each client, for "null"
	held    map[string]heldBy
	running map[string]*running
	under   sync.WaitGroup
}

func (p *player) client(name string) *stm.Client {
	p.mu.Lock()
	defer p.mu.Unlock()
	if client := p.clients[name]; client != nil {
		return client
	}
	panic(broken{"no such client: " + name})
}

func (p *player) heldAs(name string) *stm.Held {
	p.mu.Lock()
	defer p.mu.Unlock()
	if one, there := p.held[name]; there {
		return one.held
	}
	panic(broken{"nothing is held as " + name})
}

func (p *player) begin(c command) {
	id := fmt.Sprint(c.at("id"))
	ctx, cancel := context.WithCancel(context.Background())
	one := &running{cancel: cancel, going: make(chan struct{}, 1024), ended: make(chan struct{})}
	p.mu.Lock()
	p.running[id] = one
	p.mu.Unlock()
	p.under.Add(1)
	go func() {
		defer p.under.Done()
		defer func() {
			p.mu.Lock()
			delete(p.running, id)
			p.mu.Unlock()
			cancel()
		}()
		defer func() {
			if why := recover(); why != nil {
				if wrong, is := why.(broken); is {
					say(object{"id": c.object["id"], "broken": wrong.text})
					return
				}
				say(object{"id": c.object["id"], "broken": fmt.Sprint(why)})
			}
		}()
		if c.has("timeout_ms") {
			var stop context.CancelFunc
			ctx, stop = context.WithTimeout(ctx, c.millis("timeout_ms"))
			defer stop()
		}
		answer, err := p.do(ctx, one, c)
		if err != nil {
			say(object{"id": c.object["id"], "error": errorOf(err)})
			return
		}
		say(object{"id": c.object["id"], "ok": answer})
	}()
}

// steer is "go" or "stop": of a command under way, not answered.
func (p *player) steer(c command) {
	p.mu.Lock()
	defer p.mu.Unlock()
	one := p.running[fmt.Sprint(c.at("of"))]
	if one == nil {
		return
	}
	if c.text("do") == "stop" {
		one.cancel()
		return
	}
	one.going <- struct{}{}
}

func (p *player) end() {
	p.mu.Lock()
	for _, one := range p.running {
		one.cancel()
		close(one.ended)
	}
	p.mu.Unlock()
	p.under.Wait()
	for _, client := range p.clients {
		_ = client.Close()
	}
}

func (p *player) connect(ctx context.Context, c command) error {
	options := []stm.ConnectOption{
		stm.Address(c.text("address")),
		stm.Prefix(c.text("prefix")),
		stm.ClientName(c.text("client_name")),
		stm.SessionTTL(c.millis("session_ttl_ms")),
		stm.OnWarning(func(text string) {
			say(object{"id": c.object["id"], "event": "warning", "text": text})
		}),
	}
	if c.has("unavailable_ms") {
		options = append(options, stm.UnavailableTimeout(c.millis("unavailable_ms")))
	}
	client, err := stm.Connect(ctx, options...)
	if err != nil {
		return err
	}
	first, _, _ := strings.Cut(c.text("address"), ",")
	conn, err := grpc.NewClient("passthrough:///"+first, grpc.WithTransportCredentials(insecure.NewCredentials()))
	breakIf(err)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.clients[c.text("client")], p.conns[c.text("client")] = client, conn
	return nil
}

func (p *player) close(name string) error {
	p.mu.Lock()
	client, conn := p.clients[name], p.conns[name]
	delete(p.clients, name)
	delete(p.conns, name)
	for key, one := range p.held {
		if one.client == name {
			delete(p.held, key)
		}
	}
	p.mu.Unlock()
	if client == nil {
		panic(broken{"no such client: " + name})
	}
	_ = conn.Close()
	return client.Close()
}

func opOf(verb string, arguments []any) stm.Op {
	values := []any{}
	for _, argument := range arguments {
		values = append(values, native(argument))
	}
	one := func() any {
		if len(values) != 1 {
			panic(broken{verb + " takes one argument"})
		}
		return values[0]
	}
	count := 1
	if len(values) == 1 {
		if n, is := values[0].(int64); is {
			count = int(n)
		}
	}
	switch verb {
	case "set":
		return stm.SetTo(one())
	case "add":
		return stm.Add(one())
	case "min":
		return stm.Min(one())
	case "max":
		return stm.Max(one())
	case "append":
		return stm.Append(one())
	case "conj":
		return stm.Conj(values...)
	case "disj":
		return stm.Disj(values...)
	case "pop":
		return stm.Pop(count)
	case "shift":
		return stm.Shift(count)
	case "assoc":
		return stm.Assoc(values...)
	case "dissoc":
		return stm.Dissoc(values...)
	case "toggle":
		return stm.Toggle()
	}
	panic(broken{"no such operation: " + verb})
}

func refOf(client *stm.Client, name string, init ...any) *stm.Ref[any] {
	return stm.NewRef(client, name, init...)
}

func (p *player) do(ctx context.Context, one *running, c command) (any, error) {
	id, name := c.object["id"], c.text("name")
	switch c.text("do") {
	case "connect":
		return nil, p.connect(ctx, c)
	case "close":
		return nil, p.close(c.text("client"))
	case "release":
		return nil, p.heldAs(c.text("held")).Release()
	case "lost":
		held := p.heldAs(c.text("held"))
		select {
		case <-held.Context().Done():
			return true, nil
		case <-time.After(c.millis("wait_ms")):
			return held.Lost(), nil
		}
	case "null":
		return nil, p.null(c.text("client"))(ctx)
	case "repeat":
		return p.repeat(ctx, c)
	}
	client := p.client(c.text("client"))
	label := stm.Label(c.text("label"))
	switch c.text("do") {
	case "transact":
		return p.transact(ctx, one, client, c)
	case "get":
		var value any
		var err error
		if c.flag("atom") {
			value, err = stm.NewAtom(client, name, c.inits()...).Load(ctx)
		} else {
			value, err = refOf(client, name, c.inits()...).Load(ctx)
		}
		if err != nil {
			return nil, err
		}
		return out(value), nil
	case "find":
		value, there, err := refOf(client, name, c.inits()...).Lookup(ctx)
		return found(value, there), err
	case "set":
		ref := refOf(client, name)
		if definition, any := c.definition(); any {
			ref = ref.With(definition)
		}
		value := native(c.at("value"))
		return nil, client.Transact(ctx, func(_ context.Context, tx *stm.Tx) error {
			ref.Set(tx, value)
			return nil
		}, label)
	case "delete":
		return nil, client.Transact(ctx, func(_ context.Context, tx *stm.Tx) error {
			refOf(client, name).Delete(tx)
			return nil
		}, label)
	case "define":
		definition, _ := c.definition()
		return nil, client.Transact(ctx, func(_ context.Context, tx *stm.Tx) error {
			refOf(client, name).Define(tx, definition)
			return nil
		}, label)
	case "move-point":
		by := c.number("by")
		ref := stm.NewRef[point](client, name)
		err := client.Transact(ctx, func(_ context.Context, tx *stm.Tx) error {
			ref.Alter(tx, func(at point) point { at.X += by; return at })
			return nil
		}, label)
		if err != nil {
			return nil, err
		}
		value, err := refOf(client, name).Load(ctx)
		if err != nil {
			return nil, err
		}
		return out(value), nil
	case "list":
		entries, err := client.List(ctx, name)
		return entriesOf(entries), err
	case "history":
		commits, err := refOf(client, name).History(ctx)
		made := []any{}
		for _, commit := range commits {
			made = append(made, commitOf(commit))
		}
		return made, err
	case "at":
		value, there, err := refOf(client, name).LookupAt(ctx, client.At(c.number("version")))
		return found(value, there), err
	case "records":
		records := []any{}
		for record, err := range client.Records(ctx, stm.Tags(c.texts("tags")...)) {
			if err != nil {
				return nil, err
			}
			records = append(records, out(record.Value))
		}
		return records, nil
	case "watch":
		return nil, p.watch(ctx, client, c)
	case "follow":
		for value, err := range refOf(client, name).Follow(ctx) {
			if err != nil {
				return nil, err
			}
			say(object{"id": id, "event": "value", "value": found(value.Value, value.Present)})
		}
		return nil, nil
	case "acquire":
		options := []stm.LockOption{stm.Owner(c.text("owner"))}
		if c.flag("shared") {
			options = append(options, stm.Shared())
		}
		if c.has("permits_max") || c.has("permits") {
			options = append(options, stm.Permits(int(c.number("permits")), int(c.number("permits_max"))))
		}
		if c.has("wait_ms") {
			options = append(options, stm.Wait(c.millis("wait_ms")))
		}
		held, err := client.Lock(ctx, name, options...)
		if err != nil {
			return nil, err
		}
		p.mu.Lock()
		defer p.mu.Unlock()
		p.held[c.text("held")] = heldBy{c.text("client"), held}
		return wide(held.Token()), nil
	case "lock":
		info, err := client.LockInfo(ctx, name)
		return []any{len(info.Holders), len(info.Queue)}, err
	case "outcome":
		_, committed, err := client.Outcome(ctx, c.text("word"))
		if committed {
			return "committed", err
		}
		return "not-committed", err
	}
	return p.atom(ctx, stm.NewAtom(client, name, c.inits()...), c, label)
}

func (p *player) atom(ctx context.Context, atom *stm.Atom[any], c command, label stm.TransactOption) (any, error) {
	switch c.text("do") {
	case "reset":
		return nil, atom.Reset(ctx, native(c.at("value")), label)
	case "swap-add":
		by := c.number("by")
		after, err := atom.Swap(ctx, func(before any) any { return before.(int64) + by }, label)
		if err != nil {
			return nil, err
		}
		return out(after), nil
	case "compare-and-set":
		if !c.has("expected") {
			return atom.SetIfAbsent(ctx, native(c.at("value")), label)
		}
		return atom.CompareAndSet(ctx, native(c.at("expected")), native(c.at("value")), label)
	case "apply":
		op := list(c.at("op"))
		after, err := atom.Apply(ctx, opOf(op[0].(string), list(op[1])), label)
		if err != nil {
			return nil, err
		}
		return out(after), nil
	}
	panic(broken{"no such command: " + c.text("do")})
}

func found(value any, there bool) any {
	if !there {
		return object{}
	}
	return out(value)
}

func (p *player) watch(ctx context.Context, client *stm.Client, c command) error {
	names := c.texts("names")
	if len(names) == 0 {
		names = []string{"/"}
	}
	options := []stm.WatchOption{
		stm.Also(names[1:]...),
		stm.After(c.number("after")),
		stm.OnSynced(func(version int64) {
			say(object{"id": c.object["id"], "event": "synced", "version": wide(version)})
		}),
	}
	if c.flag("initial") {
		options = append(options, stm.Initial())
	}
	if c.has("progress_ms") {
		options = append(options, stm.ProgressEvery(c.millis("progress_ms")))
	}
	for commit, err := range client.Watch(ctx, names[0], options...) {
		if err != nil {
			return err
		}
		say(object{"id": c.object["id"], "event": "commit", "commit": commitOf(commit)})
	}
	return nil
}

// body is one transaction as its steps see it.
type body struct {
	player    *player
	client    *stm.Client
	id        any
	running   *running
	runs      int
	onCommits int
	results   []any
	kept      *stm.Tx
}

func (b *body) add(result any) { b.results = append(b.results, result) }

func (b *body) run(ctx context.Context, tx *stm.Tx, steps []any) error {
	for _, one := range steps {
		step := list(one)
		if err := b.step(ctx, tx, step[0].(string), step[1:]); err != nil {
			return err
		}
	}
	return nil
}

func (b *body) step(ctx context.Context, tx *stm.Tx, verb string, words []any) error {
	name := ""
	if len(words) > 0 {
		name, _ = words[0].(string)
	}
	ref := refOf(b.client, name)
	switch verb {
	case "get":
		if len(words) > 1 {
			ref = refOf(b.client, name, native(words[1]))
		}
		b.add(out(ref.Get(tx)))
	case "find":
		b.add(found(ref.Find(tx)))
	case "set":
		ref.Set(tx, native(words[1]))
	case "alter-add":
		by := integer(words[1])
		b.add(out(ref.Alter(tx, func(before any) any { return before.(int64) + by })))
	case "commute":
		ref.Commute(tx, opOf(words[1].(string), list(words[2])))
	case "delete":
		ref.Delete(tx)
	case "ensure":
		ref.Ensure(tx)
	case "list":
		b.add(entriesOf(tx.List(name)))
	case "record":
		tx.Record(native(words[0]))
	case "fence":
		tx.Fence(b.player.heldAs(name))
	case "retry":
		tx.Retry()
	case "retry-if":
		if same(ref.Get(tx), native(words[1])) {
			tx.Retry()
		}
	case "or-else":
		before := slices.Clone(b.results)
		var err error
		tx.OrElse(func() { err = b.run(ctx, tx, list(words[0])) }, func() {
			b.results = before
			err = b.run(ctx, tx, list(words[1]))
		})
		return err
	case "swallow":
		func() {
			defer func() {
				if recover() != nil {
					b.add("swallowed")
				}
			}()
			if b.run(ctx, tx, list(words[0])) != nil {
				b.add("swallowed")
			}
		}()
	case "join":
		options := []stm.TransactOption{}
		if label, there := words[0].(object)["label"].(string); there {
			options = append(options, stm.Label(label))
		}
		err := b.client.Transact(
			ctx,
			func(ctx context.Context, tx *stm.Tx) error { return b.run(ctx, tx, list(words[1])) },
			options...)
		var own bodyFailed
		if errors.As(err, &own) {
			return err
		}
		if err != nil {
			b.add(reasonOf(err))
		}
	case "try-join":
		err := b.client.Transact(
			ctx,
			func(ctx context.Context, tx *stm.Tx) error { return b.run(ctx, tx, list(words[0])) },
		)
		var own bodyFailed
		if errors.As(err, &own) {
			b.add("failed")
		}
	case "fail":
		return bodyFailed{name}
	case "io":
		_, err := ref.Load(ctx)
		if err == nil {
			b.add("none")
		} else {
			b.add(reasonOf(err))
		}
	case "on-commit":
		tx.OnCommit(func(stm.Committed) { b.onCommits++ })
	case "keep-tx":
		b.kept = tx
	case "pause":
		say(object{"id": b.id, "event": "paused", "run": b.runs})
		select {
		case <-b.running.going:
		case <-b.running.ended:
		}
	default:
		panic(broken{"no such step: " + verb})
	}
	return nil
}

// same compares by what is said of values.
func same(a, b any) bool {
	left, err := json.Marshal(out(a))
	breakIf(err)
	right, err := json.Marshal(out(b))
	breakIf(err)
	return string(left) == string(right)
}

func (p *player) transact(ctx context.Context, one *running, client *stm.Client, c command) (any, error) {
	b := &body{player: p, client: client, id: c.object["id"], running: one, results: []any{}}
	committed, causes, kept := stm.Committed{}, []any{}, int64(0)
	options := []stm.TransactOption{
		stm.Label(c.text("label")),
		stm.RunsMax(int(c.number("runs_max"))),
		stm.Report(&committed),
		stm.OnRerun(func(rerun stm.Rerun) {
			for _, cause := range rerun.Causes {
				causes = append(causes, cause.Name)
			}
		}),
	}
	if c.has("once") {
		options = append(options, stm.OnceResult(c.text("once"), &kept))
	}
	if c.flag("stale_ok") {
		options = append(options, stm.StaleOK())
	}
	if c.flag("rerun_check") {
		options = append(options, stm.RerunCheck())
	}
	if c.text("isolation") == "snapshot" {
		options = append(options, stm.SnapshotIsolation())
	}
	err := client.Transact(ctx, func(ctx context.Context, tx *stm.Tx) error {
		b.runs++
		b.results = []any{}
		return b.run(ctx, tx, list(c.at("body")))
	}, options...)
	if b.kept != nil {
		func() {
			defer func() {
				why, _ := recover().(error)
				if errors.Is(why, stm.ErrTransactionClosed) {
					b.add("transaction-closed")
				} else {
					b.add("used")
				}
			}()
			refOf(client, "/kept").Find(b.kept)
		}()
	}
	if err != nil {
		return nil, err
	}
	return object{"results": b.results, "version": wide(committed.Version), "runs": b.runs, "on_commits": b.onCommits,
		"repeated": committed.Repeated, "causes": causes}, nil
}

// ---- The bench

// null is the null RPC of this language: what any call costs at least.
func (p *player) null(name string) func(context.Context) error {
	p.mu.Lock()
	conn := p.conns[name]
	p.mu.Unlock()
	if conn == nil {
		panic(broken{"no such client: " + name})
	}
	stub := health.NewHealthClient(conn)
	return func(ctx context.Context) error {
		_, err := stub.Check(ctx, &health.HealthCheckRequest{})
		return err
	}
}

// stepOf is a step of a body that is repeated, read once.
func stepOf(client *stm.Client, step []any) func(*stm.Tx) {
	ref := refOf(client, step[1].(string))
	switch step[0].(string) {
	case "get":
		return func(tx *stm.Tx) { ref.Get(tx) }
	case "set":
		value := native(step[2])
		return func(tx *stm.Tx) { ref.Set(tx, value) }
	case "commute":
		op := opOf(step[2].(string), list(step[3]))
		return func(tx *stm.Tx) { ref.Commute(tx, op) }
	}
	panic(broken{"no such step is repeated: " + step[0].(string)})
}

// callOf is one call of what "repeat" repeats, with its command read once.
func (p *player) callOf(c command) func(context.Context) error {
	name := c.text("name")
	if c.text("do") == "null" {
		return p.null(c.text("client"))
	}
	client := p.client(c.text("client"))
	switch c.text("do") {
	case "get":
		ref := refOf(client, name, c.inits()...)
		return func(ctx context.Context) error {
			_, err := ref.Load(ctx)
			return err
		}
	case "set":
		ref, value := refOf(client, name), native(c.at("value"))
		if definition, any := c.definition(); any {
			ref = ref.With(definition)
		}
		return func(ctx context.Context) error {
			return client.Transact(ctx, func(_ context.Context, tx *stm.Tx) error {
				ref.Set(tx, value)
				return nil
			})
		}
	case "apply":
		op := list(c.at("op"))
		atom, one := stm.NewAtom(client, name, c.inits()...), opOf(op[0].(string), list(op[1]))
		return func(ctx context.Context) error {
			_, err := atom.Apply(ctx, one)
			return err
		}
	case "lock-unlock":
		return func(ctx context.Context) error {
			held, err := client.Lock(ctx, name)
			if err != nil {
				return err
			}
			return held.Release()
		}
	case "watch":
		names := c.texts("names")
		return func(ctx context.Context) error {
			ctx, cancel := context.WithCancel(ctx)
			defer cancel()
			for _, err := range client.Watch(ctx, names[0], stm.Also(names[1:]...), stm.OnSynced(func(int64) { cancel() })) {
				if err != nil && !errors.Is(err, context.Canceled) {
					return err
				}
			}
			return nil
		}
	case "transact":
		var steps []func(*stm.Tx)
		for _, step := range list(c.at("body")) {
			steps = append(steps, stepOf(client, list(step)))
		}
		return func(ctx context.Context) error {
			return client.Transact(ctx, func(_ context.Context, tx *stm.Tx) error {
				for _, step := range steps {
					step(tx)
				}
				return nil
			})
		}
	}
	panic(broken{"no such command is repeated: " + c.text("do")})
}

// repeat makes `times` calls from `callers` goroutines, and says how long they took.
func (p *player) repeat(ctx context.Context, c command) (any, error) {
	inner := command{c.at("command").(object)}
	if !inner.has("client") {
		inner.object["client"] = c.text("client")
	}
	call := p.callOf(inner)
	times, callers := max(c.number("times"), 1), max(c.number("callers"), 1)
	var begun atomic.Int64
	var mu sync.Mutex
	var took []time.Duration
	var first error
	failed := 0
	var all sync.WaitGroup
	began := time.Now()
	for range callers {
		all.Add(1)
		go func() {
			defer all.Done()
			var mine []time.Duration
			for begun.Add(1) <= times {
				from := time.Now()
				err := call(ctx)
				mine = append(mine, time.Since(from))
				if err == nil {
					continue
				}
				mu.Lock()
				if failed++; failed == 1 {
					first = err
				}
				mu.Unlock()
			}
			mu.Lock()
			defer mu.Unlock()
			took = append(took, mine...)
		}()
	}
	all.Wait()
	seconds := time.Since(began).Seconds()
	slices.Sort(took)
	at := func(share float64) float64 {
		if len(took) == 0 {
			return 0
		}
		return float64(took[int(share*float64(len(took)-1))].Nanoseconds()) / 1000
	}
	answer := object{"p50_us": at(0.5), "p99_us": at(0.99), "seconds": seconds, "failed": failed, "first_error": nil}
	if first != nil {
		answer["first_error"] = errorOf(first)
	}
	return answer, nil
}

func main() {
	p := &player{clients: map[string]*stm.Client{}, conns: map[string]*grpc.ClientConn{}, held: map[string]heldBy{},
		running: map[string]*running{}}
	input := bufio.NewReaderSize(os.Stdin, 1<<16)
	for {
		line, err := input.ReadBytes('\n')
		if len(line) > 0 {
			decoder := json.NewDecoder(strings.NewReader(string(line)))
			decoder.UseNumber()
			made := object{}
			if wrong := decoder.Decode(&made); wrong != nil {
				fmt.Fprintf(os.Stderr, "go driver: no JSON: %s\n", line)
				os.Exit(2)
			}
			c := command{made}
			if word := c.text("do"); word == "go" || word == "stop" {
				p.steer(c)
			} else {
				p.begin(c)
			}
		}
		if err != nil {
			break
		}
	}
	p.end()
}
