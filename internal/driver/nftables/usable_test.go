package nftables

import (
	"os"
	"os/exec"
	"strings"
	"testing"
)

// TestUsable: the answer is that of nft itself, and nothing stays.
func TestUsable(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root: nftables")
	}
	own := func(script string) error {
		return exec.Command("unshare", "--net", "sh", "-c", script).Run()
	}
	works := own("nft add table ip x && nft add chain ip x n '{ type nat hook prerouting priority -100; }' && nft add rule ip x n dnat to 127.0.0.1") == nil
	if err := Usable(); (err == nil) != works {
		t.Errorf("%v, nft: %v", err, works)
	}
	if out, _ := exec.Command("nft", "list", "tables").Output(); strings.Contains(string(out), Table+"-probe") {
		t.Error("the probe's table stays")
	}
}
