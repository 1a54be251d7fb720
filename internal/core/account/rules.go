package account

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"net/mail"
	"strings"
	"unicode"
	"unicode/utf8"

	"longshore/internal/core/fault"
)

// Hash is what is kept of a token or of a client's secret: its SHA-256 in hexadecimal.
func Hash(secret string) string {
	sum := sha256.Sum256([]byte(secret))
	return hex.EncodeToString(sum[:])
}

const letters = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"

// secretLetters is the length of a secret: 30 of 62 letters are 178 bits.
const secretLetters = 30

// NewSecret makes the text of a token: 30 letters and digits, 178 random bits.
func NewSecret() string {
	out := make([]byte, 0, secretLetters)
	var b [2 * secretLetters]byte
	for len(out) < secretLetters {
		rand.Read(b[:]) // never fails
		for _, c := range b {
			if c < 4*62 && len(out) < secretLetters { // 248 and more would prefer some letters
				out = append(out, letters[c%62])
			}
		}
	}
	return string(out)
}

// Limits of the index API ("User Register"), and what bcrypt hashes at most, in bytes.
const (
	minName, maxName         = 4, 30
	minPassword, maxPassword = 5, 72
	maxEmail                 = 254
	maxProfile               = 255
)

// CheckName: 4 to 30 of a–z, 0–9 and _.
func CheckName(name string) error {
	if len(name) < minName || len(name) > maxName {
		return fault.Invalid("Username must be between %d and %d characters long", minName, maxName)
	}
	if strings.ContainsFunc(name, notOfName) {
		return fault.Invalid("Username may only contain lowercase letters, digits and underscores")
	}
	return nil
}

func notOfName(r rune) bool {
	return (r < 'a' || r > 'z') && (r < '0' || r > '9') && r != '_'
}

// CheckPassword: at least 5 characters, at most 72 bytes, none of them a control character.
func CheckPassword(password string) error {
	switch {
	case utf8.RuneCountInString(password) < minPassword:
		return fault.Invalid("Password must be at least %d characters long", minPassword)
	case len(password) > maxPassword:
		return fault.Invalid("Password must be at most %d bytes long", maxPassword)
	case !utf8.ValidString(password), strings.ContainsFunc(password, unicode.IsControl):
		return fault.Invalid("Password may not contain control characters")
	}
	return nil
}

// CheckEmail: one plain address with a domain (RFC 5322, "addr-spec").
func CheckEmail(address string) error {
	a, err := mail.ParseAddress(address)
	at := strings.LastIndexByte(address, '@')
	if err != nil || a.Name != "" || a.Address != address || len(address) > maxEmail || at < 1 || !strings.Contains(address[at:], ".") {
		return fault.Invalid("Enter a valid e-mail address.")
	}
	return nil
}

// Fold is the form in which addresses are compared.
func Fold(address string) string { return strings.ToLower(address) }

// Check bounds what a user tells about itself. URL must be http or https, because it becomes a link.
func (p *Profile) Check() error {
	for _, f := range []struct{ name, value string }{
		{"full_name", p.FullName}, {"location", p.Location}, {"company", p.Company}, {"profile_url", p.URL},
	} {
		if utf8.RuneCountInString(f.value) > maxProfile {
			return fault.Invalid("%s: Ensure this value has at most %d characters.", f.name, maxProfile)
		}
		if !utf8.ValidString(f.value) || strings.ContainsFunc(f.value, unicode.IsControl) {
			return fault.Invalid("%s: Enter a valid value.", f.name)
		}
	}
	if p.URL != "" && !strings.HasPrefix(p.URL, "http://") && !strings.HasPrefix(p.URL, "https://") {
		return fault.Invalid("profile_url: Enter a valid URL.")
	}
	if p.GravatarEmail != "" {
		return CheckEmail(p.GravatarEmail)
	}
	return nil
}
