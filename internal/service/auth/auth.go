// Package auth says who a client of the registry is and what it may do. It knows no HTTP: the server hands over the
// credentials of a request and asks for decisions.
//
//	a, err := auth.New(store, auth.Config{...})
//	subject, err := a.Authenticate(ctx, auth.Credentials{Authorization: header})
//	err = a.Authorize(subject, auth.Query{Action: auth.Read, Repo: "team/app"})
//
// Who: a password file (bcrypt, sha-crypt), accounts, API keys, cookie sessions, bearer tokens of another server or our own
// (package token), client certificates; one chain for everybody who asks. What: zot's accessControl, or the token's own
// grants, or both for our own tokens. A Service may be reconfigured while it works.
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
	"golang.org/x/crypto/bcrypt"

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
	// Admin says that the account is an administrator's: as if adminPolicy named it.
	Admin bool
	// Scopes narrow what an API key may do; nil does not.
	Scopes []Scope
	// Grants are what a bearer token allows: it alone decides then, unless Own.
	Grants []Grant
	// Own says that the token is one of ours: the access policies must allow what it allows.
	Own bool
	// Expires is when an API key ends; zero for never and for other methods.
	Expires time.Time
	// fingerprint is that of the password when a token of ours was given.
	fingerprint string
}

// IsAnonymous says that nothing was proved. A token of ours may stand for nobody.
func (s *Subject) IsAnonymous() bool { return s.Method == Anonymous || s.Own && s.Name == "" }

// foreign says that another token server decides about the subject.
func (s *Subject) foreign() bool { return s.Method == Token && !s.Own }

// Credentials are what a request carries.
type Credentials struct {
	// Authorization is the header's value.
	Authorization string
	// Cookie is the session cookie's value. The server passes it only for requests that a foreign web page cannot make.
	Cookie string
	// Certificates is the verified chain of the client, its own certificate first.
	Certificates []*x509.Certificate
	// Address is where the client is, with or without a port: who guesses passwords is slowed down by it.
	Address string
}

// Config is who may come in. Everything may be changed by Reload but Now.
type Config struct {
	// HTPasswd is the path of a password file, read again when it changes; empty for none.
	HTPasswd string
	// Accounts are the people who registered; nil for none.
	Accounts Accounts
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
	random    []byte
	used      lastUsed
	passwords *passwords
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
	var err error
	if s.passwords, err = newPasswords(s.now); err != nil {
		return nil, err
	}
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
	if err := s.passwords.priceOf(st.price()); err != nil {
		return err
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

// price is what a password costs to compare.
func (st *state) price() int {
	switch {
	case st.cfg.Accounts != nil:
		return bcrypt.DefaultCost
	case st.passwd != nil:
		return st.passwd.cost()
	}
	return bcrypt.MinCost
}

// Required says whether there is any way to prove a name: without one, everybody is let in.
func (s *Service) Required() bool { return s.state.Load().required() }

func (st *state) required() bool {
	return st.passwordsUsed() || st.bearer != nil || st.cfg.APIKeys || st.identity != nil
}

// ownTokens says that there is a token server of ours.
func (st *state) ownTokens() bool { return st.cfg.Bearer != nil && st.cfg.Bearer.Own != nil }

// Methods says what a client may log in with.
type Methods struct {
	Passwords, APIKeys bool
	// Bearer is the token server, nil for none.
	Bearer *BearerConfig
}

// OwnTokens says that the token server is ours.
func (m Methods) OwnTokens() bool { return m.Bearer != nil && m.Bearer.Own != nil }

// Methods tells the methods that are configured.
func (s *Service) Methods() Methods {
	st := s.state.Load()
	return Methods{Passwords: st.passwordsUsed(), APIKeys: st.cfg.APIKeys, Bearer: st.cfg.Bearer}
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
		return s.login(ctx, st, login{user, password, c.Address})
	case Bearer:
		if st.bearer != nil {
			return s.fromToken(ctx, st, value)
		}
	}
	return nil, ErrCredentials
}

// login tries what the secret looks like first: comparing a key with a password's hash would cost more than the request.
func (s *Service) login(ctx context.Context, st *state, in login) (*Subject, error) {
	if st.cfg.APIKeys && strings.HasPrefix(in.secret, KeyPrefix) {
		who, err := s.fromKey(ctx, st, in.user, in.secret)
		if !errors.Is(err, ErrCredentials) {
			return who, err
		}
	}
	if st.passwordsUsed() {
		return s.byPassword(ctx, st, in)
	}
	return nil, ErrCredentials
}

// fromToken takes a token. One of ours is worth nothing once its user has gone, or has another password.
func (s *Service) fromToken(ctx context.Context, st *state, token string) (*Subject, error) {
	who, err := st.bearer.verify(token)
	if err != nil || !who.Own || who.Name == "" {
		return who, err
	}
	who.Groups = st.policy.GroupsOf(who.Name)
	if who.Proof != Password {
		return who, nil
	}
	k, err := st.present(ctx, who.Name)
	if err != nil {
		return nil, err
	}
	if k.fingerprint() != who.fingerprint {
		return nil, ErrCredentials // the password has changed
	}
	who.Admin = k.admin
	return who, nil
}

// stillThere says whether a user that once proved its name with a method is one still, and whether it is an
// administrator: a key, a session or a token must not outlive the user's line in the password file or its account.
func (st *state) stillThere(ctx context.Context, user string, proof Method) (admin bool, err error) {
	if proof != Password {
		return false, nil
	}
	k, err := st.present(ctx, user)
	return k.admin, err
}

// present is lookup for those who may log in.
func (st *state) present(ctx context.Context, user string) (known, error) {
	k, err := st.lookup(ctx, user)
	if err == nil && !k.active {
		err = ErrInactive
	}
	return k, notFound(err)
}

// notFound turns a missing row into ErrCredentials and keeps other errors.
func notFound(err error) error {
	if errors.Is(err, errdefs.ErrNotFound) {
		return ErrCredentials
	}
	return err
}
