package sqlmeta

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"sync"
	"time"
)

// tx runs statements: within a change's transaction, or for a pool outside of one.
type tx interface {
	// exec gives the number of rows that the statement changed.
	exec(q string, args ...any) (int64, error)
	// row gives the first row to scan; sql.ErrNoRows when there is none.
	row(q string, args []any, dest ...any) error
	// rows calls each for every row.
	rows(q string, args []any, each func(scan func(dest ...any) error) error) error
}

// preparer is what *sql.DB and *sql.Conn have in common.
type preparer interface {
	PrepareContext(ctx context.Context, q string) (*sql.Stmt, error)
}

// statements prepares every text once.
type statements struct {
	db preparer
	m  sync.Map // text -> *sql.Stmt
}

func (s *statements) get(q string) (*sql.Stmt, error) {
	if v, ok := s.m.Load(q); ok {
		return v.(*sql.Stmt), nil
	}
	// Statements outlive the request that made them.
	st, err := s.db.PrepareContext(context.Background(), q)
	if err != nil {
		return nil, err
	}
	if v, loaded := s.m.LoadOrStore(q, st); loaded {
		st.Close()
		return v.(*sql.Stmt), nil
	}
	return st, nil
}

// Close closes the statements.
func (s *statements) Close() error {
	var errs []error
	s.m.Range(func(_, v any) bool {
		errs = append(errs, v.(*sql.Stmt).Close())
		return true
	})
	return errors.Join(errs...)
}

// pool runs queries on a database's connections.
type pool struct {
	statements
	dialect dialect
	texts   sync.Map // our text -> the database's
}

func newPool(db *sql.DB, d dialect) *pool {
	return &pool{statements: statements{db: db}, dialect: d}
}

// in gives the queries a context. SQLite's are short and are not interrupted: that would cost a goroutine each.
func (p *pool) in(ctx context.Context) tx {
	if !p.dialect.numbered {
		ctx = context.Background()
	}
	return &prepared{ctx: ctx, text: p.text, get: p.get}
}

func (p *pool) text(q string) string {
	if !p.dialect.numbered {
		return q
	}
	if v, ok := p.texts.Load(q); ok {
		return v.(string)
	}
	t := p.dialect.query(q)
	p.texts.Store(q, t)
	return t
}

// prepared implements tx over prepared statements.
type prepared struct {
	ctx  context.Context
	text func(string) string
	get  func(string) (*sql.Stmt, error)
}

func (p *prepared) exec(q string, args ...any) (int64, error) {
	st, err := p.get(p.text(q))
	if err != nil {
		return 0, err
	}
	r, err := st.ExecContext(p.ctx, args...)
	if err != nil {
		return 0, err
	}
	return r.RowsAffected()
}

func (p *prepared) row(q string, args []any, dest ...any) error {
	st, err := p.get(p.text(q))
	if err != nil {
		return err
	}
	return st.QueryRowContext(p.ctx, args...).Scan(dest...)
}

func (p *prepared) rows(q string, args []any, each func(func(...any) error) error) error {
	st, err := p.get(p.text(q))
	if err != nil {
		return err
	}
	rows, err := st.QueryContext(p.ctx, args...)
	if err != nil {
		return err
	}
	return scanAll(rows, each)
}

func scanAll(rows *sql.Rows, each func(func(...any) error) error) error {
	defer rows.Close()
	for rows.Next() {
		if err := each(rows.Scan); err != nil {
			return err
		}
	}
	return rows.Err()
}

// attempts is how often PostgreSQL is asked to run a change that it gave up for another's sake.
const attempts = 8

// postgresChange runs every change in a transaction of its own; the server commits concurrent ones together.
func postgresChange(db *sql.DB) func(context.Context, func(tx) error) error {
	texts := &pool{dialect: postgres}
	return func(ctx context.Context, fn func(tx) error) error {
		var err error
		for i := range attempts {
			if err = postgresOnce(ctx, db, texts, fn); !transient(err) {
				return err
			}
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-time.After(time.Duration(i) * 5 * time.Millisecond):
			}
		}
		return fmt.Errorf("given up after %d attempts: %w", attempts, err)
	}
}

func postgresOnce(ctx context.Context, db *sql.DB, texts *pool, fn func(tx) error) error {
	t, err := db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	if err := fn(&plain{ctx: ctx, tx: t, text: texts.text}); err != nil {
		return errors.Join(err, ignoreDone(t.Rollback()))
	}
	return t.Commit()
}

func ignoreDone(err error) error {
	if errors.Is(err, sql.ErrTxDone) {
		return nil
	}
	return err
}

// plain implements tx over a transaction of PostgreSQL, whose driver prepares by itself.
type plain struct {
	ctx  context.Context
	tx   *sql.Tx
	text func(string) string
}

func (p *plain) exec(q string, args ...any) (int64, error) {
	r, err := p.tx.ExecContext(p.ctx, p.text(q), args...)
	if err != nil {
		return 0, err
	}
	return r.RowsAffected()
}

func (p *plain) row(q string, args []any, dest ...any) error {
	return p.tx.QueryRowContext(p.ctx, p.text(q), args...).Scan(dest...)
}

func (p *plain) rows(q string, args []any, each func(func(...any) error) error) error {
	rows, err := p.tx.QueryContext(p.ctx, p.text(q), args...)
	if err != nil {
		return err
	}
	return scanAll(rows, each)
}
