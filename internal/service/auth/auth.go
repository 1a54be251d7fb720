// Package auth says who a client of the registry is and what it may do. It knows no HTTP: the server hands over the
// credentials of a request and asks for decisions.
//
//	a, err := auth.New(store, auth.Config{...})
//	subject, err := a.Authenticate(ctx, auth.Credentials{Authorization: header})
//	err = a.Authorize(subject, auth.Query{Action: auth.Read, Repo: "team/app"})
//
// Who: a password file (bcrypt, sha-crypt), API keys, cookie sessions, bearer tokens of another server, client
// certificates. What: zot's accessControl, or the token's own grants. A Service may be reconfigured while it works.
package auth

import (
	"context"
	"crypto/rand"
	"crypto/x509"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"time"

	"github.com/containerd/errdefs"

	"longshore/internal/core/credential"
)

// Method is how a subject proved who it is.
type Method = credential.Method

// The methods. Anonymous subjects proved nothing.
const (
	Anonymous   = credential.Anonymous
	Password    = credential.Password
	APIKey      = credential.APIKey
	Cookie      = credential.Cookie
	Token       = credential.Token
	Certificate = credential.Certificate
)

// Subject is who asks. It is not changed after Authenticate and may be kept by many goroutines.
type Subject struct {
	// Name is empty for anonymous subjects and for tokens without one.
	Name   string
	Method Method
	// Proof is the method that a key or a session goes back to; else it is Method.
	Proof  Method
	Groups []string
	// Scopes narrow what an API key may do; nil does not.
	Scopes []Scope
	// Grants are what a bearer token allows: it alone decides then.
	Grants []Grant
	// Expires is when an API key ends; zero for never and for other methods.
	Expires time.Time
}

// IsAnonymous says that nothing was proved.
func (s *Subject) IsAnonymous() bool { return s.Method == Anonymous }

// Credentials are what a request carries.
type Credentials struct {
	// Authorization is the header's value.
	Authorization string
	// Cookie is the session cookie's value. The server passes it only for requests that a foreign web page cannot make.
	Cookie string
	// Certificates is the verified chain of the client, its own certificate first.
	Certificates []*x509.Certificate
}

// Config is who may come in. Everything may be changed by Reload but Now.
type Config struct {
	// HTPasswd is the path of a password file, read again when it changes; empty for none.
	HTPasswd string
	Bearer   *BearerConfig
	MTLS     MTLSConfig
	// MTLSOn says that clients show certificates of an authority that we trust.
	MTLSOn  bool
	APIKeys bool
	// FailDelay is how long a failed attempt waits for its answer.
	FailDelay time.Duration
	// HashKey (any length) and EncryptKey (16, 24 or 32 bytes, may be nil) protect cookies; without a HashKey sessions
	// end with the process.
	HashKey, EncryptKey []byte
	// AccessControl nil lets everybody do everything, who must only prove a name where there is a way to.
	AccessControl *AccessControl
	// Now is the clock; nil means time.Now.
	Now func() time.Time
}

// Service decides. Make it with New.
type Service struct {
	store credential.Store
	now   func() time.Time
	state atomic.Pointer[state]
	// random is the HashKey of sessions when none is configured; it outlives Reload.
	random []byte
	used   lastUsed
}

// state is what one configuration means.
type state struct {
	cfg      Config
	policy   *Policy
	passwd   *htpasswd
	bearer   *bearer
	identity *identity
	cookies  *cookies
}

// New reads the files that cfg names. store may be nil when neither API keys nor sessions are wanted.
func New(store credential.Store, cfg Config) (*Service, error) {
	s := &Service{store: store, now: cfg.Now, random: make([]byte, 64)}
	if s.now == nil {
		s.now = time.Now
	}
	rand.Read(s.random) // never fails
	if err := s.Reload(cfg); err != nil {
		return nil, err
	}
	return s, nil
}

// Reload puts another configuration in force, for the requests that come after. When it errs, the old one stays.
func (s *Service) Reload(cfg Config) error {
	st := &state{cfg: cfg}
	var err error
	if st.policy, err = NewPolicy(cfg.AccessControl); err != nil {
		return fmt.Errorf("access control: %w", err)
	}
	if cfg.HTPasswd != "" {
		if st.passwd, err = newHTPasswd(cfg.HTPasswd, s.now); err != nil {
			return err
		}
	}
	if cfg.Bearer != nil {
		if st.bearer, err = newBearer(*cfg.Bearer, s.now); err != nil {
			return err
		}
	}
	if cfg.MTLSOn {
		if st.identity, err = newIdentity(cfg.MTLS); err != nil {
			return err
		}
	}
	hash := cfg.HashKey
	if len(hash) == 0 {
		hash = s.random
	}
	if st.cookies, err = newCookies(hash, cfg.EncryptKey); err != nil {
		return err
	}
	s.state.Store(st)
	return nil
}

// Required says whether there is any way to prove a name: without one, everybody is let in.
func (s *Service) Required() bool { return s.state.Load().required() }

func (st *state) required() bool {
	return st.passwd != nil || st.bearer != nil || st.cfg.APIKeys || st.identity != nil
}

// Methods says what a client may log in with.
type Methods struct {
	Passwords, APIKeys bool
	// Bearer is the token server, nil for none.
	Bearer *BearerConfig
}

// Methods tells the methods that are configured.
func (s *Service) Methods() Methods {
	st := s.state.Load()
	return Methods{Passwords: st.passwd != nil, APIKeys: st.cfg.APIKeys, Bearer: st.cfg.Bearer}
}

// FailDelay is how long a failed attempt is to wait for its answer.
func (s *Service) FailDelay() time.Duration { return s.state.Load().cfg.FailDelay }

// ErrCredentials is what Authenticate answers for credentials that prove nothing. Its class is ErrUnauthenticated.
var ErrCredentials = fmt.Errorf("authentication failed: %w", errdefs.ErrUnauthenticated)

// Authenticate finds out who asks. Without credentials it is the anonymous subject, and no error. Wrong, expired and
// unreadable credentials are ErrCredentials, whatever an anonymous client may do.
func (s *Service) Authenticate(ctx context.Context, c Credentials) (*Subject, error) {
	st := s.state.Load()
	switch {
	case c.Authorization != "":
		return s.fromHeader(ctx, st, c)
	case c.Cookie != "":
		return s.fromCookie(ctx, st, c.Cookie)
	case len(c.Certificates) > 0 && st.identity != nil:
		name, err := st.identity.of(c.Certificates[0])
		if err != nil {
			return nil, err
		}
		return st.subject(name, Certificate, Certificate), nil
	}
	return anonymous, nil
}

var anonymous = &Subject{}

func (st *state) subject(name string, m, proof Method) *Subject {
	return &Subject{Name: name, Method: m, Proof: proof, Groups: st.policy.GroupsOf(name)}
}

func (s *Service) fromHeader(ctx context.Context, st *state, c Credentials) (*Subject, error) {
	if !st.required() {
		return anonymous, nil // nothing to check them against: docker sends what it has stored
	}
	scheme, value := ParseAuthorization(c.Authorization)
	switch scheme {
	case Basic:
		user, password, ok := ParseBasic(value)
		if !ok {
			return nil, ErrCredentials
		}
		return s.login(ctx, st, user, password)
	case Bearer:
		if st.bearer != nil {
			return st.bearer.verify(value)
		}
	}
	return nil, ErrCredentials
}

// login tries what the secret looks like first: comparing a key with a password's hash would cost more than the request.
func (s *Service) login(ctx context.Context, st *state, user, secret string) (*Subject, error) {
	if st.cfg.APIKeys && strings.HasPrefix(secret, KeyPrefix) {
		who, err := s.fromKey(ctx, st, user, secret)
		if !errors.Is(err, ErrCredentials) {
			return who, err
		}
	}
	if st.passwd != nil && st.passwd.check(user, secret) {
		return st.subject(user, Password, Password), nil
	}
	return nil, ErrCredentials
}

// stillThere says whether a user that once proved its name with a method is one still: a key or a session must not
// outlive the user's line in the password file.
func (st *state) stillThere(user string, proof Method) bool {
	if proof == Password {
		return st.passwd != nil && st.passwd.has(user)
	}
	return true
}

// notFound turns a missing row into ErrCredentials and keeps other errors.
func notFound(err error) error {
	if errors.Is(err, errdefs.ErrNotFound) {
		return ErrCredentials
	}
	return err
}
