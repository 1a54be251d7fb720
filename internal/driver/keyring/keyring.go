// Package keyring keeps the keys that a token server signs with: P-256 keys with self-signed certificates in files of one
// folder (mode 0600), made when they are needed and followed by new ones in good time.
//
//	ring, err := keyring.Open("/var/lib/registry/_longshore/token-keys", keyring.Config{Every: 30 * 24 * time.Hour, Overlap: time.Hour})
//	key, err := ring.Signer()
//
// The newest key signs, but for the first minute of its life, so that other instances with the same folder have read it
// before they see its tokens. A key that signs no more is good for verification for Overlap longer, and is deleted then.
package keyring

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base32"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"longshore/internal/base/atomicfile"
)

// Config says how keys follow each other.
type Config struct {
	// Every is how long a key signs.
	Every time.Duration
	// Overlap is how long a key is believed after its last signature: the life of a token, or longer.
	Overlap time.Duration
	// Now is the clock; nil means time.Now.
	Now func() time.Time
}

// Key is a key with its certificate.
type Key struct {
	// ID is the fingerprint of the public key: twelve groups of four letters, after libtrust.
	ID string
	// Private signs.
	Private *ecdsa.PrivateKey
	// Certificate is its self-signed certificate, in DER.
	Certificate []byte
	created     time.Time
}

// Ring is the keys of a folder. It may be used by many goroutines; several processes may share the folder.
type Ring struct {
	dir string
	cfg Config

	mu   sync.Mutex // guards what follows
	keys []*Key     // oldest first
	read time.Time  // when the folder was looked at
}

const (
	// published is how long a key is known before it signs.
	published = time.Minute
	// reread is how often the folder is looked at; minReread how often for keys that nobody has heard of.
	reread, minReread = 20 * time.Second, time.Second
)

// Open reads the folder, which is made when it is not there, and makes the first key.
func Open(dir string, cfg Config) (*Ring, error) {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("token keys: %w", err)
	}
	r := &Ring{dir: dir, cfg: cfg}
	if _, err := r.Signer(); err != nil {
		return nil, err
	}
	return r, nil
}

// Signer is the key to sign with now. A new one is made when the newest is old enough.
func (r *Ring) Signer() (*Key, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := r.cfg.Now()
	if now.Sub(r.read) >= reread || r.due(now) {
		if err := r.refresh(now); err != nil {
			return nil, err
		}
	}
	return r.signer(now), nil
}

// PublicKey finds a key that is still believed.
func (r *Ring) PublicKey(id string) (*ecdsa.PublicKey, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := r.cfg.Now()
	k := r.find(id, now)
	if k == nil && now.Sub(r.read) >= minReread || now.Sub(r.read) >= reread {
		if r.refresh(now) == nil {
			k = r.find(id, now)
		}
	}
	if k == nil {
		return nil, false
	}
	return &k.Private.PublicKey, true
}

// Keys lists the keys that are believed, oldest first.
func (r *Ring) Keys() ([]*Key, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := r.cfg.Now()
	if err := r.refresh(now); err != nil {
		return nil, err
	}
	var out []*Key
	for i, k := range r.keys {
		if !r.over(i, now) {
			out = append(out, k)
		}
	}
	return out, nil
}

// Rotate makes another key at once. The old one is believed for Overlap longer; forget deletes it instead, as one does
// with a key that somebody has stolen.
func (r *Ring) Rotate(forget bool) (*Key, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := r.cfg.Now()
	var made *Key
	err := r.locked(func() error {
		if err := r.load(now); err != nil {
			return err
		}
		old := r.keys
		k, err := r.make(now)
		if err != nil {
			return err
		}
		made = k
		for i := 0; forget && i < len(old); i++ {
			if err := r.remove(old[i]); err != nil {
				return err
			}
		}
		if forget {
			r.keys = []*Key{k}
		}
		return nil
	})
	return made, err
}

func (r *Ring) find(id string, now time.Time) *Key {
	for i, k := range r.keys {
		if k.ID == id && !r.over(i, now) {
			return k
		}
	}
	return nil
}

// signer is the newest key that has been known for long enough, or the oldest.
func (r *Ring) signer(now time.Time) *Key {
	for i := len(r.keys) - 1; i > 0; i-- {
		if now.Sub(r.keys[i].created) >= published {
			return r.keys[i]
		}
	}
	return r.keys[0]
}

// due says that the newest key has signed for long enough.
func (r *Ring) due(now time.Time) bool {
	return len(r.keys) == 0 || now.Sub(r.keys[len(r.keys)-1].created) >= r.cfg.Every
}

// over says that a key is believed no more: it has signed nothing since the next one was published.
func (r *Ring) over(i int, now time.Time) bool {
	return i < len(r.keys)-1 && now.Sub(r.keys[i+1].created) >= published+r.cfg.Overlap
}

// refresh reads the folder, and makes and deletes keys where it is time.
func (r *Ring) refresh(now time.Time) error {
	if err := r.load(now); err != nil {
		return err
	}
	if !r.due(now) && (len(r.keys) == 0 || !r.over(0, now)) {
		return nil
	}
	return r.locked(func() error {
		if err := r.load(now); err != nil { // another process may have been faster
			return err
		}
		if r.due(now) {
			if _, err := r.make(now); err != nil {
				return err
			}
		}
		for len(r.keys) > 1 && r.over(0, now) {
			if err := r.remove(r.keys[0]); err != nil {
				return err
			}
			r.keys = r.keys[1:]
		}
		return nil
	})
}

// locked keeps other processes from making keys at the same time.
func (r *Ring) locked(f func() error) error {
	lock, err := os.OpenFile(filepath.Join(r.dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return fmt.Errorf("token keys: %w", err)
	}
	defer lock.Close() //nolint:errcheck // it was only locked
	for {
		err := unix.Flock(int(lock.Fd()), unix.LOCK_EX)
		if err == nil {
			break
		}
		if !errors.Is(err, unix.EINTR) {
			return fmt.Errorf("lock token keys: %w", err)
		}
	}
	return f()
}

// load reads the folder. Files that are no keys of ours are refused: a key that cannot be read must not be replaced in
// silence.
func (r *Ring) load(now time.Time) error {
	names, err := filepath.Glob(filepath.Join(r.dir, "*.pem"))
	if err != nil {
		return fmt.Errorf("token keys: %w", err)
	}
	have := map[string]*Key{}
	for _, k := range r.keys {
		have[r.path(k)] = k
	}
	keys := make([]*Key, 0, len(names))
	for _, name := range names {
		k := have[name]
		if k == nil {
			if k, err = readKey(name); errors.Is(err, os.ErrNotExist) {
				continue // deleted since
			} else if err != nil {
				return fmt.Errorf("token key %s: %w", name, err)
			}
		}
		keys = append(keys, k)
	}
	slices.SortFunc(keys, func(a, b *Key) int { return a.created.Compare(b.created) })
	r.keys, r.read = keys, now
	return nil
}

func (r *Ring) path(k *Key) string {
	return filepath.Join(r.dir, strconv.FormatInt(k.created.UnixMilli(), 10)+"-"+strings.ReplaceAll(k.ID, ":", "")[:8]+".pem")
}

func (r *Ring) remove(k *Key) error {
	if err := os.Remove(r.path(k)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("token keys: %w", err)
	}
	return nil
}

// make writes a new key.
func (r *Ring) make(now time.Time) (*Key, error) {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("token key: %w", err)
	}
	k := &Key{Private: private, created: now.Truncate(time.Millisecond)}
	if k.ID, err = fingerprint(&private.PublicKey); err != nil {
		return nil, err
	}
	if k.Certificate, err = r.certificate(k); err != nil {
		return nil, err
	}
	der, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		return nil, fmt.Errorf("token key: %w", err)
	}
	text := append(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}),
		pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: k.Certificate})...)
	if err := atomicfile.Write(r.path(k), text, 0o600); err != nil {
		return nil, fmt.Errorf("token key: %w", err)
	}
	r.keys = append(r.keys, k)
	return k, nil
}

// certificate is good for as long as the key signs and is believed, with as much time again for a process that is down.
func (r *Ring) certificate(k *Key) ([]byte, error) {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return nil, fmt.Errorf("token key: %w", err)
	}
	template := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: k.ID}, NotBefore: k.created.Add(-time.Hour),
		NotAfter: k.created.Add(2*(r.cfg.Every+r.cfg.Overlap) + 24*time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign, IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &k.Private.PublicKey, k.Private)
	if err != nil {
		return nil, fmt.Errorf("token key: %w", err)
	}
	return der, nil
}

func readKey(path string) (*Key, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	k := &Key{}
	for block, rest := pem.Decode(data); block != nil; block, rest = pem.Decode(rest) {
		switch block.Type {
		case "PRIVATE KEY":
			private, err := x509.ParsePKCS8PrivateKey(block.Bytes)
			if err != nil {
				return nil, err
			}
			k.Private, _ = private.(*ecdsa.PrivateKey)
		case "CERTIFICATE":
			k.Certificate = block.Bytes
		}
	}
	if k.Private == nil || k.Private.Curve != elliptic.P256() || k.Certificate == nil {
		return nil, errors.New("holds no P-256 key with a certificate")
	}
	stamp, _, _ := strings.Cut(filepath.Base(path), "-")
	millis, err := strconv.ParseInt(stamp, 10, 64)
	if err != nil {
		return nil, errors.New("its name does not begin with the time of its making")
	}
	k.created = time.UnixMilli(millis)
	k.ID, err = fingerprint(&k.Private.PublicKey)
	return k, err
}

// fingerprint names a public key: the first 240 bits of the SHA-256 of its DER form in base32, in groups of four.
func fingerprint(key *ecdsa.PublicKey) (string, error) {
	der, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		return "", fmt.Errorf("token key: %w", err)
	}
	sum := sha256.Sum256(der)
	text := base32.StdEncoding.EncodeToString(sum[:30])
	var groups []string
	for g := range slices.Chunk([]byte(text), 4) {
		groups = append(groups, string(g))
	}
	return strings.Join(groups, ":"), nil
}
