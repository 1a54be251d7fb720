package processes

import (
	"context"
	"fmt"
	"os"
	"slices"
	"testing"
)

func TestTopOfOurselves(t *testing.T) {
	for _, args := range []string{"", "aux", "-eo pid,comm", "-o pid,args"} {
		top, err := Host{}.Top(context.Background(), args, []int{os.Getpid()})
		if err != nil {
			t.Fatalf("%q: %v", args, err)
		}
		col := slices.Index(top.Titles, "PID")
		if len(top.Processes) != 1 || top.Processes[0][col] != fmt.Sprint(os.Getpid()) {
			t.Errorf("%q: %v", args, top)
		}
		if len(top.Processes[0]) != len(top.Titles) {
			t.Errorf("%q: %d fields under %d titles", args, len(top.Processes[0]), len(top.Titles))
		}
	}
}

func TestTopRefusals(t *testing.T) {
	for args, want := range map[string]string{
		"-o comm":      "Couldn't find PID field in ps output",
		"--no-such-op": "ps: error: unknown gnu long option",
	} {
		_, err := Host{}.Top(context.Background(), args, []int{1})
		if err == nil || err.Error() != want {
			t.Errorf("%q: %v, want %s", args, err, want)
		}
	}
}

func TestParseKeepsSpacesOfTheCommand(t *testing.T) {
	top, err := parse([]byte("PID CMD\n 7 sh -c echo  x\n 8 other\n"), []int{7})
	if err != nil || fmt.Sprintf("%q", top.Processes) != `[["7" "sh -c echo x"]]` {
		t.Errorf("%q %v", top, err)
	}
}

func TestNetStats(t *testing.T) {
	text := "Inter-|   Receive |  Transmit\n face |bytes packets\n    lo: 1 1 0 0 0 0 0 0 1 1 0 0 0 0 0 0\n  eth0: 100 2 3 4 0 0 0 0 200 5 6 7 0 0 0 0\n"
	got := parseNetDev(text)
	e := got["eth0"]
	if len(got) != 1 || e.RxBytes != 100 || e.RxPackets != 2 || e.RxErrors != 3 || e.RxDropped != 4 || e.TxBytes != 200 || e.TxPackets != 5 || e.TxErrors != 6 || e.TxDropped != 7 {
		t.Errorf("%+v", got)
	}
	if _, err := (Host{}).NetStats(os.Getpid()); err != nil {
		t.Error(err)
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte("PID CMD\n1 a\n- -\n"))
	f.Add([]byte("PID\n\n1"))
	f.Fuzz(func(t *testing.T, b []byte) {
		_, _ = parse(b, []int{1, 2})
		parseNetDev(string(b))
	})
}
