// Package distribution holds the words of the OCI distribution specification 1.1: repository names, tags, references,
// pages, byte ranges and the errors with their codes. It is pure; every parser here is fuzzed.
//
//	repo, err := distribution.ParseRepoName("team/app")
//	ref, err := distribution.ParseReference("v1")
package distribution

import (
	_ "crypto/sha256" // digest.SHA256
	_ "crypto/sha512" // digest.SHA512
	"strings"

	"github.com/opencontainers/go-digest"
)

// Limits of names. MaxRepoName leaves room for a registry host within the 255 bytes that many clients allow.
const (
	MaxRepoName = 255
	MaxTag      = 128
)

// RepoName is a repository name that has passed ParseRepoName.
type RepoName string

// Tag is a tag that has passed ParseTag.
type Tag string

// ParseRepoName accepts exactly the specification's grammar
// [a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*(\/[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*)* up to MaxRepoName bytes; else NAME_INVALID.
func ParseRepoName(s string) (RepoName, error) {
	if s == "" || len(s) > MaxRepoName {
		return "", NameInvalid(s)
	}
	for part := range strings.SplitSeq(s, "/") {
		if !validComponent(part) {
			return "", NameInvalid(s)
		}
	}
	return RepoName(s), nil
}

// validComponent walks one path component: runs of [a-z0-9] joined by ".", "_", "__" or dashes.
func validComponent(s string) bool {
	i := 0
	for {
		start := i
		for i < len(s) && alnum(s[i]) {
			i++
		}
		if i == start {
			return false
		}
		if i == len(s) {
			return true
		}
		n := separator(s[i:])
		if n == 0 {
			return false
		}
		i += n
	}
}

// separator is the length of the separator that s begins with, 0 when there is none.
func separator(s string) int {
	switch {
	case s[0] == '.':
		return 1
	case strings.HasPrefix(s, "__"):
		return 2
	case s[0] == '_':
		return 1
	}
	return len(s) - len(strings.TrimLeft(s, "-"))
}

func alnum(c byte) bool { return c >= 'a' && c <= 'z' || c >= '0' && c <= '9' }

// ParseTag accepts [a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}; else MANIFEST_INVALID, as the reference implementation answers.
func ParseTag(s string) (Tag, error) {
	if !validTag(s) {
		return "", tagInvalid(s)
	}
	return Tag(s), nil
}

func validTag(s string) bool {
	if s == "" || len(s) > MaxTag || s[0] == '.' || s[0] == '-' {
		return false
	}
	for i := range len(s) {
		c := s[i]
		if !alnum(c) && (c < 'A' || c > 'Z') && c != '_' && c != '.' && c != '-' {
			return false
		}
	}
	return true
}

// ParseDigest accepts sha256 and sha512 digests in lower case hexadecimal; else DIGEST_INVALID.
func ParseDigest(s string) (digest.Digest, error) {
	d := digest.Digest(s)
	if d.Validate() != nil || d.Algorithm() != digest.SHA256 && d.Algorithm() != digest.SHA512 {
		return "", DigestInvalid("invalid digest %q", s)
	}
	return d, nil
}

// ParseAlgorithm accepts "sha256", "sha512" and "" (sha256); else DIGEST_INVALID.
func ParseAlgorithm(s string) (digest.Algorithm, error) {
	switch s {
	case "", "sha256":
		return digest.SHA256, nil
	case "sha512":
		return digest.SHA512, nil
	}
	return "", DigestInvalid("unsupported digest algorithm %q", s)
}

// Reference is what follows /manifests/: exactly one of Tag and Digest is set.
type Reference struct {
	Tag    Tag
	Digest digest.Digest
}

// ParseReference reads a tag or a digest. A text with a colon is taken for a digest (DIGEST_INVALID when it is none).
func ParseReference(s string) (Reference, error) {
	if strings.Contains(s, ":") {
		d, err := ParseDigest(s)
		return Reference{Digest: d}, err
	}
	t, err := ParseTag(s)
	return Reference{Tag: t}, err
}

// String is the reference as it stands in a URL.
func (r Reference) String() string {
	if r.Digest != "" {
		return r.Digest.String()
	}
	return string(r.Tag)
}

// ReferrersTag is the tag of the referrers tag schema for a subject (algorithm cut to 32, encoded part to 64 bytes).
func ReferrersTag(subject digest.Digest) Tag {
	alg, enc, _ := strings.Cut(subject.String(), ":")
	alg, enc = alg[:min(len(alg), 32)], enc[:min(len(enc), 64)]
	clean := func(r rune) rune {
		if r < 128 && (alnum(byte(r)) || r >= 'A' && r <= 'Z' || r == '_' || r == '.' || r == '-') {
			return r
		}
		return '-'
	}
	return Tag(strings.Map(clean, alg) + "-" + strings.Map(clean, enc))
}
