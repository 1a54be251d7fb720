package sqlmeta

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"hash/fnv"
	"sync"

	"github.com/opencontainers/go-digest"
)

// keyed implements the guards within one process: a reader-writer lock per digest in use.
type keyed struct {
	mu    sync.Mutex // guards locks
	locks map[string]*keyLock
}

type keyLock struct {
	shared    int
	exclusive bool
	// freed is closed when the exclusive holder is done.
	freed chan struct{}
}

func newKeyed() *keyed { return &keyed{locks: map[string]*keyLock{}} }

func key(store string, d digest.Digest) string { return store + "\x00" + d.String() }

// Share implements registryindex.Guards.
func (k *keyed) Share(ctx context.Context, store string, d digest.Digest) (func(), error) {
	name := key(store, d)
	for {
		k.mu.Lock()
		l := k.locks[name]
		if l == nil {
			l = &keyLock{}
			k.locks[name] = l
		}
		if !l.exclusive {
			l.shared++
			k.mu.Unlock()
			return func() { k.unshare(name, l) }, nil
		}
		k.mu.Unlock()
		select {
		case <-l.freed:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

func (k *keyed) unshare(name string, l *keyLock) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if l.shared--; l.shared == 0 {
		delete(k.locks, name)
	}
}

// TryExclude implements registryindex.Guards.
func (k *keyed) TryExclude(_ context.Context, store string, ds []digest.Digest) ([]digest.Digest, func(), error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	var held []digest.Digest
	for _, d := range ds {
		name := key(store, d)
		if k.locks[name] == nil {
			k.locks[name] = &keyLock{exclusive: true, freed: make(chan struct{})}
			held = append(held, d)
		}
	}
	return held, func() {
		k.mu.Lock()
		defer k.mu.Unlock()
		for _, d := range held {
			name := key(store, d)
			close(k.locks[name].freed)
			delete(k.locks, name)
		}
	}, nil
}

// advisory implements the guards among all processes that use one PostgreSQL: advisory locks of the session. A process
// that dies loses its connection and with it its locks.
type advisory struct{ db *sql.DB }

func number(store string, d digest.Digest) int64 {
	h := fnv.New64a()
	h.Write([]byte(key(store, d)))
	return int64(h.Sum64())
}

// Share implements registryindex.Guards.
func (a *advisory) Share(ctx context.Context, store string, d digest.Digest) (func(), error) {
	conn, err := a.db.Conn(ctx)
	if err != nil {
		return nil, wrap(err, "guard %s", d)
	}
	if _, err := conn.ExecContext(ctx, "SELECT pg_advisory_lock_shared($1)", number(store, d)); err != nil {
		discard(conn)
		return nil, wrap(err, "guard %s", d)
	}
	return func() { a.release(conn) }, nil
}

// TryExclude implements registryindex.Guards. One connection holds all.
func (a *advisory) TryExclude(ctx context.Context, store string, ds []digest.Digest) ([]digest.Digest, func(), error) {
	conn, err := a.db.Conn(ctx)
	if err != nil {
		return nil, nil, wrap(err, "guard blobs")
	}
	var held []digest.Digest
	for _, d := range ds {
		var ok bool
		if err := conn.QueryRowContext(ctx, "SELECT pg_try_advisory_lock($1)", number(store, d)).Scan(&ok); err != nil {
			discard(conn)
			return nil, nil, wrap(err, "guard blobs")
		}
		if ok {
			held = append(held, d)
		}
	}
	return held, func() { a.release(conn) }, nil
}

// release frees the session's locks, or ends the session when that fails.
func (a *advisory) release(conn *sql.Conn) {
	if _, err := conn.ExecContext(context.Background(), "SELECT pg_advisory_unlock_all()"); err != nil {
		discard(conn)
		return
	}
	conn.Close()
}

// discard ends the connection instead of giving it back: whether it holds a lock is not known.
func discard(conn *sql.Conn) {
	_ = conn.Raw(func(any) error { return driver.ErrBadConn })
	conn.Close()
}
