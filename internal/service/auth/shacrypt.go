package auth

import (
	"crypto/sha256"
	"crypto/sha512"
	"crypto/subtle"
	"hash"
	"strconv"
	"strings"
)

// shaCrypt checks a password against a $5$ (SHA-256) or $6$ (SHA-512) hash, after the document "Unix crypt using
// SHA-256 and SHA-512" by Ulrich Drepper.
func shaCrypt(stored, password string) bool {
	s, ok := parseSHACrypt(stored)
	if !ok || len(password) > maxPassword {
		return false
	}
	sum := s.compute([]byte(password))
	return subtle.ConstantTimeCompare([]byte(s.encode(sum)), []byte(s.sum)) == 1
}

// maxPassword bounds what is hashed in bytes: the work grows with it.
const maxPassword = 1024

// Limits of the document, but for maxRounds: a hash with more is refused, so that a file cannot stop the registry.
const (
	defaultRounds = 5000
	minRounds     = 1000
	maxRounds     = 1_000_000
	maxSalt       = 16
)

type shaHash struct {
	long   bool // SHA-512
	rounds int
	salt   []byte
	sum    string
}

func parseSHACrypt(stored string) (shaHash, bool) {
	h := shaHash{rounds: defaultRounds}
	rest, ok := strings.CutPrefix(stored, "$5$")
	if !ok {
		if rest, ok = strings.CutPrefix(stored, "$6$"); !ok {
			return h, false
		}
		h.long = true
	}
	if text, found := strings.CutPrefix(rest, "rounds="); found {
		number, tail, found := strings.Cut(text, "$")
		n, err := strconv.Atoi(number)
		if !found || err != nil || n < 0 || n > maxRounds {
			return h, false
		}
		h.rounds, rest = max(n, minRounds), tail
	}
	salt, sum, found := strings.Cut(rest, "$")
	h.salt, h.sum = []byte(salt[:min(len(salt), maxSalt)]), sum
	return h, found && sum != ""
}

func (s shaHash) new() hash.Hash {
	if s.long {
		return sha512.New()
	}
	return sha256.New()
}

func (s shaHash) compute(password []byte) []byte {
	b := s.sumOf(password, s.salt, password)
	a := s.new()
	a.Write(password)
	a.Write(s.salt)
	a.Write(stretch(b, len(password)))
	for n := len(password); n > 0; n >>= 1 {
		if n&1 != 0 {
			a.Write(b)
		} else {
			a.Write(password)
		}
	}
	sum := a.Sum(nil)

	dp := s.new()
	for range password {
		dp.Write(password)
	}
	p := stretch(dp.Sum(nil), len(password))
	ds := s.new()
	for range 16 + int(sum[0]) {
		ds.Write(s.salt)
	}
	salt := stretch(ds.Sum(nil), len(s.salt))
	return s.repeat(sum, p, salt)
}

func (s shaHash) repeat(sum, p, salt []byte) []byte {
	h := s.new()
	for i := range s.rounds {
		h.Reset()
		if i&1 != 0 {
			h.Write(p)
		} else {
			h.Write(sum)
		}
		if i%3 != 0 {
			h.Write(salt)
		}
		if i%7 != 0 {
			h.Write(p)
		}
		if i&1 != 0 {
			h.Write(sum)
		} else {
			h.Write(p)
		}
		sum = h.Sum(sum[:0])
	}
	return sum
}

func (s shaHash) sumOf(parts ...[]byte) []byte {
	h := s.new()
	for _, p := range parts {
		h.Write(p)
	}
	return h.Sum(nil)
}

// stretch repeats b to n bytes.
func stretch(b []byte, n int) []byte {
	out := make([]byte, 0, n+len(b))
	for len(out) < n {
		out = append(out, b...)
	}
	return out[:n]
}

const cryptAlphabet = "./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"

// encode writes a sum in the order and the alphabet of crypt: groups of three bytes, each a step on from the one before.
func (s shaHash) encode(sum []byte) string {
	var out []byte
	group := func(b2, b1, b0 byte, n int) {
		v := uint(b2)<<16 | uint(b1)<<8 | uint(b0)
		for range n {
			out = append(out, cryptAlphabet[v&63])
			v >>= 6
		}
	}
	if s.long {
		for i, a, b, c := 0, 0, 21, 42; i < 21; i++ {
			group(sum[a], sum[b], sum[c], 4)
			a, b, c = b+1, c+1, a+1
		}
		group(0, 0, sum[63], 2)
		return string(out)
	}
	for i, a, b, c := 0, 0, 10, 20; i < 10; i++ {
		group(sum[a], sum[b], sum[c], 4)
		a, b, c = c+1, a+1, b+1
	}
	group(0, sum[31], sum[30], 3)
	return string(out)
}
