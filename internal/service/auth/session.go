package auth

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"github.com/containerd/errdefs"
	"github.com/gorilla/securecookie"

	"longshore/internal/core/credential"
)

// SessionLife is how long a session lasts.
const SessionLife = 7 * 24 * time.Hour

// cookieName is bound into the cookie's signature.
const cookieName = "session"

// cookies seals session names, so that a made-up cookie never reaches the store.
type cookies struct{ codec *securecookie.SecureCookie }

func newCookies(hash, encrypt []byte) (*cookies, error) {
	switch len(encrypt) {
	case 0, 16, 24, 32:
	default:
		return nil, errors.New("the key that encrypts cookies must be 16, 24 or 32 bytes long")
	}
	if len(encrypt) == 0 {
		encrypt = nil
	}
	c := securecookie.New(hash, encrypt)
	c.MaxAge(int(SessionLife / time.Second))
	return &cookies{c}, nil
}

// OpenSession makes a session for a subject that has just shown a password or an API key, and returns the cookie's value.
func (s *Service) OpenSession(ctx context.Context, who *Subject) (cookie string, expires time.Time, err error) {
	if s.store == nil || who.Name == "" || who.Scopes != nil || who.Method == Token {
		return "", time.Time{}, fmt.Errorf("open session: %w", errdefs.ErrPermissionDenied)
	}
	name, expires := newUUID(), s.now().Add(SessionLife)
	cookie, err = s.state.Load().cookies.codec.Encode(cookieName, name)
	if err != nil {
		return "", time.Time{}, fmt.Errorf("seal session: %w", err)
	}
	if err := s.store.SweepSessions(ctx, s.now()); err != nil {
		return "", time.Time{}, fmt.Errorf("sweep sessions: %w", err)
	}
	err = s.store.AddSession(ctx, credential.Session{Hash: hashSession(name), User: who.Name, Proof: who.Proof, Expires: expires})
	return cookie, expires, err
}

// CloseSession ends the session of a cookie; one that is no session is none to end.
func (s *Service) CloseSession(ctx context.Context, cookie string) error {
	var name string
	if s.store == nil || s.state.Load().cookies.codec.Decode(cookieName, cookie, &name) != nil {
		return nil
	}
	return s.store.DeleteSession(ctx, hashSession(name))
}

func (s *Service) fromCookie(ctx context.Context, st *state, cookie string) (*Subject, error) {
	var name string
	if s.store == nil || st.cookies.codec.Decode(cookieName, cookie, &name) != nil {
		return nil, ErrCredentials
	}
	session, err := s.store.SessionByHash(ctx, hashSession(name))
	if err != nil {
		return nil, notFound(err)
	}
	if !s.now().Before(session.Expires) {
		return nil, ErrCredentials
	}
	admin, err := st.stillThere(ctx, session.User, session.Proof)
	if err != nil {
		return nil, err
	}
	who := st.subject(session.User, Cookie, session.Proof)
	who.Admin = admin
	return who, nil
}

func hashSession(name string) string {
	sum := sha256.Sum256([]byte(name))
	return hex.EncodeToString(sum[:])
}
