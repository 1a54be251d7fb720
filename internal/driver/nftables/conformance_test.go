package nftables

import (
	"log/slog"
	"os"
	"testing"

	"longshore/internal/core/firewall"
	"longshore/internal/core/firewall/firewalltest"
)

func TestMain(m *testing.M) { firewalltest.Main(m) }

func TestConformance(t *testing.T) {
	firewalltest.Run(t, firewalltest.Backend{
		New: func(cfg firewall.Config) firewall.Firewall {
			return New(cfg, slog.New(slog.NewTextHandler(os.Stderr, nil)))
		},
		Remove:    func(f firewall.Firewall) error { return f.(*Firewall).Remove() },
		DropInput: "nft 'add table inet h; add chain inet h in { type filter hook input priority 0; policy accept; }; add rule inet h in ct state established accept; add rule inet h in tcp dport { 22, %d } reject; add rule inet h in iifname wan drop'",
		DropHook:  "nft add rule inet longshore-user prerouting tcp dport %d drop",
		Undo:      "nft 'flush chain inet longshore-user prerouting; add table inet h; delete table inet h'",
		Flush:     "nft flush ruleset",
	})
}
