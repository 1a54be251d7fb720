package network

import (
	"flag"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write the golden files anew")

// Each file in testdata is a script: command lines, each followed by its answer after "> ". A reviewer reads their
// differences.
//
//	subnet 10.0.0.0/24 [range 10.0.0.128/25]   next   take 10.0.0.5   release 10.0.0.5   status
//	choose v4|v6 [taken,taken…]                pools 10.0.0.0/8:24,…
func TestScripts(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	for _, f := range files {
		t.Run(filepath.Base(f), func(t *testing.T) {
			script, err := os.ReadFile(f)
			if err != nil {
				t.Fatal(err)
			}
			var out strings.Builder
			m := machine{pools: DefaultPools()}
			for _, line := range strings.Split(strings.TrimRight(string(script), "\n"), "\n") {
				if strings.HasPrefix(line, "> ") {
					continue
				}
				out.WriteString(line + "\n")
				if answer := m.run(strings.Fields(line)); answer != "" {
					out.WriteString("> " + answer + "\n")
				}
			}
			if *update {
				if err := os.WriteFile(f, []byte(out.String()), 0o644); err != nil {
					t.Fatal(err)
				}
			} else if out.String() != string(script) {
				t.Errorf("got\n%s", out.String())
			}
		})
	}
}

type machine struct {
	sub   *Subnet
	pools []AddressPool
}

func (m *machine) run(f []string) string {
	if len(f) == 0 || f[0] == "#" {
		return ""
	}
	switch f[0] {
	case "subnet":
		var rng netip.Prefix
		if len(f) == 4 {
			rng = netip.MustParsePrefix(f[3])
		}
		m.sub = NewSubnet(netip.MustParsePrefix(f[1]), rng)
		return ""
	case "next":
		a, err := m.sub.Next()
		return say(a, err)
	case "take":
		a := netip.MustParseAddr(f[1])
		return say(a, m.sub.Take(a))
	case "release":
		m.sub.Release(netip.MustParseAddr(f[1]))
		return ""
	case "status":
		inUse, available := m.sub.Status()
		return fmt.Sprintf("%d in use, %d available", inUse, available)
	case "pools":
		m.pools = nil
		for _, p := range strings.Split(f[1], ",") {
			colon := strings.LastIndexByte(p, ':')
			base := p[:colon]
			var n int
			_, _ = fmt.Sscan(p[colon+1:], &n)
			pool, err := ParsePool(base, n)
			if err != nil {
				return err.Error()
			}
			m.pools = append(m.pools, pool)
		}
		return ""
	case "choose":
		var taken []netip.Prefix
		if len(f) == 3 {
			for _, p := range strings.Split(f[2], ",") {
				taken = append(taken, netip.MustParsePrefix(p))
			}
		}
		p, err := Choose(m.pools, taken, f[1] == "v6")
		return say(p, err)
	case "sized":
		bits, err := strconv.Atoi(f[1])
		if err != nil {
			return say(nil, err)
		}
		m.pools = Sized(m.pools, bits)
		return ""
	}
	return "unknown command"
}

func say(v fmt.Stringer, err error) string {
	if err != nil {
		return "error: " + err.Error()
	}
	return v.String()
}
