// Package credential is the contract of the store that keeps API keys and login sessions: only what proves them, never
// the secrets themselves. Implementations: driver/sqlauth; the suite is in credentialtest.
package credential

import (
	"context"
	"time"
)

// Method is how somebody proved who they are.
type Method string

// The methods. Anonymous proved nothing.
const (
	Anonymous   Method = ""
	Password    Method = "password"
	APIKey      Method = "apikey"
	Cookie      Method = "session"
	Token       Method = "bearer"
	Certificate Method = "certificate"
)

// Key is an API key as it is kept: the key itself is known to its owner only.
type Key struct {
	// ID is a UUID, to name the key by.
	ID   string
	User string
	// Hash is the SHA-256 of the key in hexadecimal. The key has 128 random bits: it needs no salt and no stretching.
	Hash  string
	Label string
	// Scopes narrow the key; nil does not.
	Scopes []string
	// Proof is how the owner had logged in: a password's keys die with the password's line.
	Proof Method
	// CreatorUA is the User-Agent of the request that made it.
	CreatorUA string
	Created   time.Time
	// Expires and LastUsed are zero for never.
	Expires, LastUsed time.Time
}

// Expired says whether the key has ceased to be good.
func (k *Key) Expired(now time.Time) bool { return !k.Expires.IsZero() && !now.Before(k.Expires) }

// Session is a login that a cookie stands for.
type Session struct {
	// Hash is the SHA-256 of the session's random name in hexadecimal; the name itself is in the cookie only.
	Hash string
	User string
	// Proof is how the user had logged in.
	Proof   Method
	Expires time.Time
}

// Store keeps both. What a method changed is durable when it returns. Errors: ErrNotFound, ErrAlreadyExists.
type Store interface {
	Keys
	Sessions
}

// Keys keeps API keys.
type Keys interface {
	// AddKey is ErrAlreadyExists when the ID or the hash is taken.
	AddKey(ctx context.Context, k Key) error
	KeyByHash(ctx context.Context, hash string) (Key, error)
	// KeysOf lists a user's keys, oldest first.
	KeysOf(ctx context.Context, user string) ([]Key, error)
	// DeleteKey is ErrNotFound for keys of others too.
	DeleteKey(ctx context.Context, user, id string) error
	// KeyUsed notes a use; an unknown hash is ignored.
	KeyUsed(ctx context.Context, hash string, at time.Time) error
}

// Sessions keeps sessions.
type Sessions interface {
	AddSession(ctx context.Context, s Session) error
	SessionByHash(ctx context.Context, hash string) (Session, error)
	// DeleteSession is idempotent.
	DeleteSession(ctx context.Context, hash string) error
	// DeleteSessionsOf ends all sessions of a user. It is idempotent.
	DeleteSessionsOf(ctx context.Context, user string) error
	// SweepSessions deletes what expired before.
	SweepSessions(ctx context.Context, before time.Time) error
}
