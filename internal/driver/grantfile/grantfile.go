// Package grantfile keeps the tokens of the engine API: one file per token, named by its ID, which holds the secret's
// hash only. Commands write while a daemon reads; a token that is removed is refused from the next request on.
package grantfile

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"longshore/internal/base/atomicfile"
	"longshore/internal/core/fault"
	"longshore/internal/core/grant"
)

// prefix begins every token, so that scanners for leaked secrets can know one.
const prefix = "lst_"

// Store is a directory of tokens. Safe for concurrent use, by several processes too.
type Store struct{ dir string }

// New names the directory; it is made when the first token is.
func New(dir string) *Store { return &Store{dir} }

// Add stores a grant and gives the token, which cannot be had again.
func (s *Store) Add(g grant.Grant) (token string, err error) {
	if err := g.Validate(); err != nil {
		return "", err
	}
	all, err := s.List()
	if err != nil {
		return "", err
	}
	for _, other := range all {
		if other.Name == g.Name {
			return "", fault.Conflict("there is a token %q already: remove it first", g.Name)
		}
	}
	var id [6]byte
	var secret [32]byte
	_, _ = rand.Read(id[:]) // never fails
	_, _ = rand.Read(secret[:])
	g.ID, g.Created = hex.EncodeToString(id[:]), time.Now().UTC()
	text := base64.RawURLEncoding.EncodeToString(secret[:])
	g.Hash = hash(text)
	doc, err := json.MarshalIndent(g, "", "  ")
	if err != nil {
		return "", err
	}
	if err := os.MkdirAll(s.dir, 0o700); err != nil {
		return "", err
	}
	return prefix + g.ID + "_" + text, atomicfile.Write(s.path(g.ID), doc, 0o600)
}

func hash(secret string) string {
	sum := sha256.Sum256([]byte(secret))
	return hex.EncodeToString(sum[:])
}

func (s *Store) path(id string) string { return filepath.Join(s.dir, id+".json") }

// Damaged is the name under which List gives a token whose file cannot be read: it allows nothing, and Remove takes its ID.
const Damaged = "(damaged)"

// List gives all tokens, by ID.
func (s *Store) List() ([]grant.Grant, error) {
	entries, err := os.ReadDir(s.dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	var out []grant.Grant
	for _, e := range entries {
		id, ok := strings.CutSuffix(e.Name(), ".json")
		if !ok {
			continue
		}
		g, rerr := s.read(id)
		if rerr != nil {
			g = &grant.Grant{Name: Damaged}
		}
		g.ID = id
		out = append(out, *g)
	}
	return out, err
}

func (s *Store) read(id string) (*grant.Grant, error) {
	doc, err := os.ReadFile(s.path(id))
	if err != nil {
		return nil, err
	}
	g := &grant.Grant{}
	if err := json.Unmarshal(doc, g); err != nil {
		return nil, fmt.Errorf("token file %s: %w", s.path(id), err)
	}
	return g, nil
}

// Remove ends a token by its name or ID.
func (s *Store) Remove(ref string) error {
	all, err := s.List()
	if err != nil {
		return err
	}
	for _, g := range all {
		if (g.Name == ref && ref != Damaged) || g.ID == ref {
			if err := os.Remove(s.path(g.ID)); err != nil {
				return err
			}
			return atomicfile.SyncDir(s.dir)
		}
	}
	return fault.NotFound("no token %q", ref)
}

// errRefused says nothing of what was wrong.
func errRefused() error { return fault.Unauthorized("the token is not valid") }

// Find gives what a token allows now.
func (s *Store) Find(token string) (*grant.Grant, error) {
	rest, ok := strings.CutPrefix(token, prefix)
	id, secret, both := strings.Cut(rest, "_")
	if raw, err := hex.DecodeString(id); !ok || !both || err != nil || len(raw) != 6 {
		return nil, errRefused()
	}
	g, err := s.read(id)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, errRefused()
	}
	if err != nil {
		return nil, err
	}
	if subtle.ConstantTimeCompare([]byte(hash(secret)), []byte(g.Hash)) != 1 || g.Expired(time.Now()) {
		return nil, errRefused()
	}
	return g, nil
}
