package auth

import (
	"strings"
	"testing"
)

// The hashes come from glibc's crypt.
func TestSHACrypt(t *testing.T) {
	for hash, password := range map[string]string{
		"$5$saltstring$5B8vYYiY.CVt1RlTTf8KbXBH3hsxY/GNooZaBBGWEc5":                                                              "Hello world!",
		"$5$rounds=10000$saltstringsaltst$3xv.VbSHBb41AL9AvLeujZkZRBAwqFMz2.opqey6IcA":                                           "Hello world!",
		"$5$rounds=77777$short$JiO1O3ZpDAxGJeaDIuqCoEFysAe1mZNJRs3pw0KQRd/":                                                      "we have a short salt string but not a short password",
		"$6$saltstring$svn8UoSVapNtMuq1ukKS4tPQd8iKwSMHWjl/O817G3uBnIFNjnQJuesI68u4OTLiBFdcbYEdFCoEOfaS35inz1":                   "Hello world!",
		"$6$rounds=1400$anotherlongsalts$POfYwTEok97VWcjxIiSOjiykti.o/pQs.wPvMxQ6Fm7I6IoYN3CmLs66x9t0oSwbtEW7o7UmJEiDwGqd8p4ur1": "a very much longer text to encrypt.  This one even stretches over morethan one line.",
		"$6$x$QSmr1Bx2g4O6BzKvdkgOcyU6H91X6I/XBv5pSalMhSPkwdH6Beo3F455xZJg0v//bxVK5F4OE5k1.0xuR26MK0":                            "",
	} {
		if !shaCrypt(hash, password) {
			t.Errorf("%s does not fit %q", hash, password)
		}
		if shaCrypt(hash, password+"x") {
			t.Errorf("%s fits another password", hash)
		}
	}
	for _, hash := range []string{"", "$5$", "$5$salt", "$5$salt$", "$5$rounds=x$s$h", "$5$rounds=99999999999$s$h", "$6$rounds=2000000$s$h", "$1$a$b"} {
		if shaCrypt(hash, "") {
			t.Errorf("%q fits", hash)
		}
	}
	if shaCrypt("$5$s$x", strings.Repeat("a", maxPassword+1)) {
		t.Error("an endless password")
	}
}

func TestParseScope(t *testing.T) {
	for text, want := range map[string]string{
		"repository:team/app:pull,push":           "team/app",
		"repository:host.example:5000/app:pull":   "host.example:5000/app",
		"registry:catalog:*":                      "catalog",
		"repository(plugin):team/app:pull,delete": "team/app",
	} {
		g, ok := ParseScope(text)
		if !ok || g.Name != want || g.String() != text {
			t.Errorf("%s: %+v", text, g)
		}
	}
	for _, text := range []string{"", "a", "a:b", ":b:c", "a::c"} {
		if g, ok := ParseScope(text); ok {
			t.Errorf("%q: %+v", text, g)
		}
	}
}

func FuzzParseScope(f *testing.F) {
	f.Add("repository:host:5000/app:pull,push")
	f.Fuzz(func(t *testing.T, text string) {
		g, ok := ParseScope(text)
		if !ok {
			return
		}
		if again, ok := ParseScope(g.String()); !ok || again.Name != g.Name || again.Type != g.Type || len(again.Actions) != len(g.Actions) {
			t.Errorf("%q became %+v", g, again)
		}
	})
}

func FuzzAuthorization(f *testing.F) {
	f.Add("Basic YWxpY2U6c2VjcmV0")
	f.Add("bearer x.y.z")
	f.Fuzz(func(t *testing.T, header string) {
		scheme, value := ParseAuthorization(header)
		if scheme == Unknown {
			return
		}
		user, password, ok := ParseBasic(value)
		if ok && (user == "" || strings.ContainsAny(user+password, "\x00\n")) {
			t.Errorf("%q %q", user, password)
		}
	})
}

func FuzzPasswd(f *testing.F) {
	f.Add([]byte("a:$5$s$h\n#c\nb:$2y$05$x"), "p")
	f.Fuzz(func(_ *testing.T, data []byte, password string) {
		for _, hash := range parsePasswd(data) {
			if s, ok := parseSHACrypt(hash); ok && s.rounds <= defaultRounds {
				shaCrypt(hash, password)
			}
		}
	})
}

func FuzzKeyScope(f *testing.F) {
	f.Add("team/**:pull,push", "team/app")
	f.Fuzz(func(_ *testing.T, text, repo string) {
		if s, err := ParseKeyScope(text); err == nil {
			scoped([]Scope{s}, Query{Repo: repo, Action: Read})
		}
	})
}
