package auth

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/containerd/errdefs"

	"longshore/internal/core/credential"
	"longshore/internal/core/fault"
	"longshore/internal/core/glob"
)

// KeyPrefix begins every API key.
const KeyPrefix = "zak_"

// Key is an API key as it is kept.
type Key = credential.Key

// Limits of what a client asks for.
const (
	maxKeysOfUser = 200
	maxLabel      = 256
	maxScopes     = 100
)

// KeyRequest is what a client asks for.
type KeyRequest struct {
	Label   string
	Scopes  []string
	Expires time.Time
	// UserAgent of the request.
	UserAgent string
}

// CreateKey makes a key for a subject. The key is returned once and never again.
func (s *Service) CreateKey(ctx context.Context, who *Subject, r KeyRequest) (key string, k Key, err error) {
	if err := s.mayKeepKeys(who); err != nil {
		return "", Key{}, err
	}
	if err := s.checkKeyRequest(ctx, who, r); err != nil {
		return "", Key{}, err
	}
	var secret [16]byte
	rand.Read(secret[:]) // never fails
	key = KeyPrefix + hex.EncodeToString(secret[:])
	k = Key{
		ID: newUUID(), User: who.Name, Hash: hashKey(key), Label: r.Label, Scopes: r.Scopes, Proof: who.Proof,
		CreatorUA: r.UserAgent[:min(len(r.UserAgent), maxLabel)], Created: s.now(), Expires: r.Expires,
	}
	if err := s.store.AddKey(ctx, k); err != nil {
		return "", Key{}, fmt.Errorf("keep API key: %w", err)
	}
	return key, k, nil
}

func (s *Service) checkKeyRequest(ctx context.Context, who *Subject, r KeyRequest) error {
	if !r.Expires.IsZero() && !r.Expires.After(s.now()) {
		return fault.Invalid("expirationDate lies in the past")
	}
	if len(r.Label) > maxLabel || len(r.Scopes) > maxScopes {
		return fault.Invalid("label or scopes are too long")
	}
	for _, text := range r.Scopes {
		if _, err := ParseKeyScope(text); err != nil {
			return fault.Invalid("scope %q: %w", text, err)
		}
	}
	keys, err := s.store.KeysOf(ctx, who.Name)
	if err == nil && len(keys) >= maxKeysOfUser {
		return fault.New(errdefs.ErrResourceExhausted, "there are %d API keys already", len(keys))
	}
	return err
}

// mayKeepKeys: keys are for people with a name, and a key that is narrowed must not make a wider one.
func (s *Service) mayKeepKeys(who *Subject) error {
	switch {
	case !s.state.Load().cfg.APIKeys:
		return fault.NotFound("API keys are not enabled")
	case who.IsAnonymous():
		return fmt.Errorf("API keys: %w", errdefs.ErrUnauthenticated)
	case who.Name == "", who.Scopes != nil, who.Method == Token:
		return fault.Forbidden("these credentials cannot manage API keys")
	}
	return nil
}

// ListKeys lists a subject's own keys, oldest first.
func (s *Service) ListKeys(ctx context.Context, who *Subject) ([]Key, error) {
	if err := s.mayKeepKeys(who); err != nil {
		return nil, err
	}
	return s.store.KeysOf(ctx, who.Name)
}

// DeleteKey revokes one of a subject's own keys.
func (s *Service) DeleteKey(ctx context.Context, who *Subject, id string) error {
	if err := s.mayKeepKeys(who); err != nil {
		return err
	}
	return s.store.DeleteKey(ctx, who.Name, id)
}

func (s *Service) fromKey(ctx context.Context, st *state, user, key string) (*Subject, error) {
	k, err := s.store.KeyByHash(ctx, hashKey(key))
	if err != nil {
		return nil, notFound(err)
	}
	if k.User != user || k.Expired(s.now()) {
		return nil, ErrCredentials
	}
	admin, err := st.stillThere(ctx, user, k.Proof)
	if err != nil {
		return nil, err
	}
	subject := st.subject(user, APIKey, k.Proof)
	subject.Expires, subject.Admin = k.Expires, admin
	for _, text := range k.Scopes {
		scope, err := ParseKeyScope(text)
		if err != nil {
			return nil, ErrCredentials
		}
		subject.Scopes = append(subject.Scopes, scope)
	}
	s.used.mark(ctx, s.store, k.Hash, s.now())
	return subject, nil
}

func hashKey(key string) string {
	sum := sha256.Sum256([]byte(key))
	return hex.EncodeToString(sum[:])
}

// Scope narrows an API key: repositories that match a pattern, and the actions there; no actions are all.
type Scope struct {
	pattern *glob.Pattern
	actions []Action
}

// ParseKeyScope reads "pattern" or "pattern:action,action", with zot's actions or pull and push.
func ParseKeyScope(s string) (Scope, error) {
	name, list, narrowed := strings.Cut(s, ":")
	p, err := glob.Compile(name)
	if err != nil {
		return Scope{}, err
	}
	scope := Scope{pattern: p}
	if !narrowed {
		return scope, nil
	}
	for a := range strings.SplitSeq(list, ",") {
		switch Action(a) {
		case Read, Create, Update, Delete:
			scope.actions = append(scope.actions, Action(a))
		case "pull":
			scope.actions = append(scope.actions, Read)
		case "push":
			scope.actions = append(scope.actions, Create, Update)
		default:
			return Scope{}, fmt.Errorf("%q is no action", a)
		}
	}
	return scope, nil
}

func scoped(scopes []Scope, q Query) bool {
	if scopes == nil {
		return true
	}
	for _, s := range scopes {
		if s.pattern.Match(q.Repo) && (s.actions == nil || slices.Contains(s.actions, q.Action)) {
			return true
		}
	}
	return false
}

// lastUsed writes down the use of keys, each at most once a minute: a pull is no reason to write to the index each time.
type lastUsed struct {
	mu   sync.Mutex
	seen map[string]time.Time
}

const lastUsedEvery = time.Minute

func (l *lastUsed) mark(ctx context.Context, store credential.Keys, hash string, now time.Time) {
	l.mu.Lock()
	due := now.Sub(l.seen[hash]) >= lastUsedEvery
	if due {
		if l.seen == nil || len(l.seen) >= maxRemembered {
			l.seen = map[string]time.Time{}
		}
		l.seen[hash] = now
	}
	l.mu.Unlock()
	if due && store.KeyUsed(ctx, hash, now) != nil {
		// The use is a statistic: a pull does not fail for it. It is tried again with the next use.
		l.mu.Lock()
		delete(l.seen, hash)
		l.mu.Unlock()
	}
}

// newUUID is a random UUID (RFC 9562, version 4).
func newUUID() string {
	var b [16]byte
	rand.Read(b[:]) // never fails
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}
