package engineboot

import (
	"strings"
	"testing"

	"longshore/internal/boot/engineconfig"
)

func TestAPIWarnings(t *testing.T) {
	const addr = "0.0.0.0:2375"
	for want, c := range map[string]engineconfig.Config{
		"":                                 {Hosts: []string{"unix:///x", "fd://"}},
		"http://" + addr + " without enc":  {Hosts: []string{"unix:///x", "tcp://" + addr}, RequireToken: []string{"tcp"}},
		"http://" + addr + " without encr": {Hosts: []string{addr}},
		"https://" + addr + " without TLS": {Hosts: []string{"tcp://" + addr}, TLS: true},
	} {
		if got := strings.Join(apiWarnings(&c), ""); (want == "") != (got == "") || !strings.Contains(got, want) {
			t.Errorf("%q: %q", want, got)
		}
	}
	for _, c := range []engineconfig.Config{
		{Hosts: []string{"tcp://" + addr}, TLS: true, TLSVerify: true}, {Hosts: []string{"tcp://" + addr}, TLS: true, RequireToken: []string{"tcp"}},
	} {
		if got := apiWarnings(&c); len(got) > 0 {
			t.Errorf("%q", got)
		}
	}
}
