package account

import (
	"strings"
	"testing"
)

func TestRules(t *testing.T) {
	for _, c := range []struct {
		check func(string) error
		value string
		ok    bool
	}{
		{CheckName, "jane", true}, {CheckName, "jane_doe9", true}, {CheckName, strings.Repeat("a", 30), true},
		{CheckName, "jan", false}, {CheckName, strings.Repeat("a", 31), false}, {CheckName, "Jane", false},
		{CheckName, "jane-doe", false}, {CheckName, "jane/../", false}, {CheckName, "jané", false}, {CheckName, "", false},
		{CheckPassword, "toto42", true}, {CheckPassword, "äöüßé", true}, {CheckPassword, "toto", false},
		{CheckPassword, strings.Repeat("x", 72), true}, {CheckPassword, strings.Repeat("x", 73), false}, {CheckPassword, "abc\ndef", false},
		{CheckPassword, "abcde\xff", false},
		{CheckEmail, "sam@dotcloud.com", true}, {CheckEmail, "jane.doe+other@example.com", true},
		{CheckEmail, "sam", false}, {CheckEmail, "Sam <sam@example.com>", false}, {CheckEmail, "sam@localhost", false},
		{CheckEmail, "a@b.c, d@e.f", false}, {CheckEmail, strings.Repeat("a", 250) + "@b.co", false}, {CheckEmail, "", false},
	} {
		if err := c.check(c.value); (err == nil) != c.ok {
			t.Errorf("%q: %v", c.value, err)
		}
	}
}

func TestProfile(t *testing.T) {
	for _, c := range []struct {
		p  Profile
		ok bool
	}{
		{Profile{}, true}, {Profile{FullName: "Jane Doe", URL: "http://janedoe.com/", GravatarEmail: "a@b.co"}, true},
		{Profile{URL: "javascript:alert(1)"}, false}, {Profile{Company: strings.Repeat("x", 256)}, false},
		{Profile{Location: "a\x00b"}, false}, {Profile{GravatarEmail: "nobody"}, false},
	} {
		if err := c.p.Check(); (err == nil) != c.ok {
			t.Errorf("%+v: %v", c.p, err)
		}
	}
}

func TestSecrets(t *testing.T) {
	seen := map[string]bool{}
	for range 100 {
		s := NewSecret()
		if len(s) != 30 || strings.Trim(s, letters) != "" || seen[s] {
			t.Fatalf("%q", s)
		}
		seen[s] = true
	}
	if Hash("a") == Hash("b") || len(Hash("a")) != 64 {
		t.Error(Hash("a"))
	}
}
