package iptables

import (
	"log/slog"
	"os"
	"os/exec"
	"strings"
	"testing"

	"longshore/internal/core/firewall"
	"longshore/internal/core/firewall/firewalltest"
)

func TestMain(m *testing.M) { firewalltest.Main(m) }

func TestConformance(t *testing.T) {
	for _, variant := range []string{"-legacy", "-nft"} {
		t.Run(variant[1:], func(t *testing.T) {
			if _, err := exec.LookPath("iptables" + variant + "-restore"); err != nil {
				t.Skip("iptables is not installed")
			}
			command := func(s string) string { return strings.ReplaceAll(s, "iptables", "iptables"+variant) }
			firewalltest.Run(t, firewalltest.Backend{
				New: func(cfg firewall.Config) firewall.Firewall {
					return New(cfg, variant, slog.New(slog.NewTextHandler(os.Stderr, nil)))
				},
				Remove:    func(f firewall.Firewall) error { return f.(*Firewall).Remove() },
				DropInput: command(`iptables -A INPUT -p tcp --dport %d -m comment --comment "not -j ACCEPT" -j REJECT; iptables -A INPUT -i wan -j DROP`),
				DropHook:  command("iptables -I DOCKER-USER -p tcp -m conntrack --ctorigdstport %d -j DROP"),
				Undo:      command("iptables -F INPUT; iptables -F DOCKER-USER"),
				Flush:     command("for t in nat filter mangle raw; do iptables -t $t -F; iptables -t $t -X || true; done"),
			})
		})
	}
}
