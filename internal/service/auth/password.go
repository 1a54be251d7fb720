package auth

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/containerd/errdefs"
	"golang.org/x/crypto/bcrypt"

	"longshore/internal/core/account"
	"longshore/internal/core/fault"
)

// Accounts are people who registered. account.Store is one.
type Accounts interface {
	// UserByName is ErrNotFound for names that nobody has.
	UserByName(ctx context.Context, name string) (account.User, error)
}

// ErrInactive is what Authenticate answers for the right password of an account that was switched off.
var ErrInactive = fault.New(errdefs.ErrPermissionDenied, "Account is not Active")

// ErrSlowDown is what Authenticate answers when a name or an address has guessed wrong too often. It is no statement
// about the password, which was not looked at.
var ErrSlowDown = fault.New(errdefs.ErrResourceExhausted, "too many failed login attempts, try again later")

// known is what the chain knows of a name: the password file is asked first, accounts after it, so that a line of the
// administrator's outweighs an account with the same name.
type known struct {
	hash          string
	active, admin bool
}

// fingerprint changes when the password does, and tells nothing of it.
func (k known) fingerprint() string { return account.Hash("fingerprint " + k.hash)[:32] }

func (st *state) lookup(ctx context.Context, user string) (known, error) {
	if st.passwd != nil {
		if hash, ok := st.passwd.hash(user); ok {
			return known{hash: hash, active: true}, nil
		}
	}
	if st.cfg.Accounts == nil {
		return known{}, errdefs.ErrNotFound
	}
	u, err := st.cfg.Accounts.UserByName(ctx, user)
	return known{u.PasswordHash, u.Active, u.Admin}, err
}

// passwords checks passwords. One that was right is remembered by a keyed hash, because bcrypt costs more than the
// request it protects; the memory is worth nothing once the hash has changed. It outlives Reload.
type passwords struct {
	key   []byte
	now   func() time.Time
	guard *guard
	// work bounds how many hashes are computed at a time.
	work chan struct{}

	mu    sync.RWMutex // guards what follows
	right map[[sha256.Size]byte]string
	// decoy is what the password of an unknown user is compared with, so that the time does not tell who is known.
	decoy string
}

// maxRemembered bounds the memory of right passwords.
const maxRemembered = 10_000

// parallelHashes is how many passwords are hashed at a time: guessing must not take the machine from those who pull.
const parallelHashes = 4

func newPasswords(now func() time.Time) (*passwords, error) {
	p := &passwords{
		key: make([]byte, 32), now: now, guard: newGuard(now), work: make(chan struct{}, parallelHashes),
		right: map[[sha256.Size]byte]string{},
	}
	rand.Read(p.key) // never fails
	return p, p.priceOf(bcrypt.MinCost)
}

// priceOf makes comparing strangers cost what comparing users does.
func (p *passwords) priceOf(cost int) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if own, err := bcrypt.Cost([]byte(p.decoy)); err == nil && own == cost {
		return nil
	}
	decoy, err := bcrypt.GenerateFromPassword(p.key[:16], cost)
	if err != nil {
		return fmt.Errorf("passwords: %w", err)
	}
	p.decoy = string(decoy)
	return nil
}

// check answers nil for the right password of somebody who is active.
func (p *passwords) check(ctx context.Context, who known, found bool, in login) error {
	proof := p.proof(in.user, in.secret)
	p.mu.RLock()
	remembered, ok := p.right[proof]
	hash := p.decoy
	p.mu.RUnlock()
	if found {
		hash = who.hash
	}
	if !found || !ok || remembered != hash {
		if err := p.compare(ctx, hash, found, in); err != nil {
			return err
		}
		p.remember(proof, hash)
	}
	if !who.active {
		return ErrInactive
	}
	return nil
}

// compare hashes a password, as slowly as the failures before it ask for.
func (p *passwords) compare(ctx context.Context, hash string, found bool, in login) error {
	if err := p.guard.enter(ctx, in.user, in.address); err != nil {
		return err
	}
	select {
	case p.work <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	ok := verifyHash(hash, in.secret)
	<-p.work
	if !ok || !found {
		p.guard.failed(in.user, in.address)
		return ErrCredentials
	}
	p.guard.succeeded(in.user)
	return nil
}

func (p *passwords) remember(proof [sha256.Size]byte, hash string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.right) >= maxRemembered {
		clear(p.right)
	}
	p.right[proof] = hash
}

func (p *passwords) proof(user, password string) (sum [sha256.Size]byte) {
	m := hmac.New(sha256.New, p.key)
	fmt.Fprintf(m, "%d:%s:%s", len(user), user, password)
	m.Sum(sum[:0])
	return sum
}

// login is one attempt.
type login struct{ user, secret, address string }

// byPassword proves a name by the password file or an account.
func (s *Service) byPassword(ctx context.Context, st *state, in login) (*Subject, error) {
	who, err := st.lookup(ctx, in.user)
	found := err == nil
	if err != nil && !errors.Is(err, errdefs.ErrNotFound) {
		return nil, err
	}
	if err := s.passwords.check(ctx, who, found, in); err != nil {
		return nil, err
	}
	subject := st.subject(in.user, Password, Password)
	subject.Admin = who.admin
	return subject, nil
}

// Login proves a name by a password, for pages that ask for one. address is where the client is.
func (s *Service) Login(ctx context.Context, user, password, address string) (*Subject, error) {
	st := s.state.Load()
	if !st.passwordsUsed() || user == "" {
		return nil, ErrCredentials
	}
	return s.byPassword(ctx, st, login{user, password, address})
}

func (st *state) passwordsUsed() bool { return st.passwd != nil || st.cfg.Accounts != nil }

// Knows says whether the password file has a name, which is not free for an account then.
func (s *Service) Knows(user string) bool {
	st := s.state.Load()
	return st.passwd != nil && st.passwd.has(user)
}

// Recall is the subject of a user who proved its name by a password some time ago, and a fingerprint that changes when the
// password does. It is ErrCredentials for those who have gone.
func (s *Service) Recall(ctx context.Context, user string) (who *Subject, fingerprint string, err error) {
	st := s.state.Load()
	k, err := st.present(ctx, user)
	if err != nil {
		return nil, "", err
	}
	who = st.subject(user, Password, Password)
	who.Admin = k.admin
	return who, k.fingerprint(), nil
}
