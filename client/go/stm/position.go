package stm

import (
	"sync"

	"stmd.dev/client/go/internal/stmv1"
)

type known struct {
	store, writer uint64
	seen          int64
}

// position is what a client knows of the daemon's time: the store, the writer that new ids name, and the newest version
// in any answer. It only grows within one store; another is only taken by adopt.
type position struct {
	mu    sync.Mutex
	known known
}

func (p *position) get() known {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.known
}

func (p *position) seen() *stmv1.Seen {
	now := p.get()
	return &stmv1.Seen{Version: now.seen, Store: now.store}
}

// observe takes the header of an answer; one of another store is ignored.
func (p *position) observe(header *stmv1.Header) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if header.GetStore() == p.known.store {
		p.take(header)
	}
}

func (p *position) observeVersion(store uint64, version int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if store == p.known.store {
		p.known.seen = max(p.known.seen, version)
	}
}

// adopt takes the header of a new connection, or of an answer that says that the store was changed: versions of another
// store mean nothing any more.
func (p *position) adopt(header *stmv1.Header) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if header.GetStore() != p.known.store {
		p.known = known{store: header.GetStore()}
	}
	p.take(header)
}

func (p *position) take(header *stmv1.Header) {
	p.known.seen = max(p.known.seen, header.GetInstalledVersion())
	if header.GetWriter() != 0 {
		p.known.writer = header.GetWriter()
	}
}
