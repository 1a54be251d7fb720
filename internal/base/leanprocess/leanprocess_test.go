package leanprocess

import (
	"os"
	"strings"
	"testing"
)

// TestTrim: the program goes on, with less of its file in memory.
func TestTrim(t *testing.T) {
	before := resident(t)
	if err := Trim(); err != nil {
		t.Fatal(err)
	}
	t.Logf("before:\n%safter:\n%s", before, resident(t))
}

func resident(t *testing.T) string {
	t.Helper()
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	for line := range strings.Lines(string(status)) {
		if strings.HasPrefix(line, "Rss") || strings.HasPrefix(line, "VmRSS") {
			out.WriteString(line)
		}
	}
	return out.String()
}

// TestReadOnly: pages that were written to, and other files', are left alone.
func TestReadOnly(t *testing.T) {
	const smaps = `00400000-00500000 r-xp 00000000 fe:00 12 /bin/x
Size: 1024 kB
Anonymous:             0 kB
VmFlags: rd ex mr mw me
00500000-00600000 r--p 00100000 fe:00 12 /bin/x
Anonymous:             4 kB
00600000-00700000 rw-p 00200000 fe:00 12 /bin/x
Anonymous:             0 kB
00700000-00800000 r--p 00000000 00:00 0
Anonymous:             0 kB
00800000-00900000 r--p 00000000 fe:00 13 /lib/other
Anonymous:             0 kB
`
	got := readOnly([]byte(smaps), "/bin/x")
	if len(got) != 1 || got[0] != [2]uintptr{0x400000, 0x500000} {
		t.Fatalf("%x", got)
	}
}
