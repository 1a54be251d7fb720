package hostcheck

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	goruntime "runtime"
	"strings"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// onThread runs f on a thread of its own that has unshared the given namespaces. The thread ends afterwards, and its
// namespaces with all that f made in them.
func onThread(flags int, f func() error) error {
	done := make(chan error)
	go func() {
		goruntime.LockOSThread()
		if err := unix.Unshare(flags); err != nil {
			done <- fmt.Errorf("unshare: %w", err)
			return
		}
		done <- f()
	}()
	return <-done
}

func checkNamespaces(context.Context) (string, error) {
	var have, lack []string
	for _, ns := range []struct {
		name string
		flag int
	}{
		{"mnt", unix.CLONE_FS | unix.CLONE_NEWNS}, {"pid", unix.CLONE_NEWPID}, {"net", unix.CLONE_NEWNET},
		{"ipc", unix.CLONE_NEWIPC}, {"uts", unix.CLONE_NEWUTS}, {"cgroup", unix.CLONE_NEWCGROUP},
	} {
		if err := onThread(ns.flag, func() error { return nil }); err != nil {
			lack = append(lack, ns.name+" ("+err.Error()+")")
		} else {
			have = append(have, ns.name)
		}
	}
	if len(lack) > 0 {
		return "", fmt.Errorf("no %s", strings.Join(lack, ", "))
	}
	return strings.Join(have, ", "), nil
}

// checkOverlay mounts an overlay of two layers below dir, in a mount namespace of its own, and writes through it.
func checkOverlay(dir string) (string, error) {
	tmp, err := os.MkdirTemp(dir, ".longshore-check")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(tmp)
	for _, d := range []string{"lower", "upper", "work", "merged"} {
		if err := os.Mkdir(filepath.Join(tmp, d), 0o755); err != nil {
			return "", err
		}
	}
	if err := os.WriteFile(filepath.Join(tmp, "lower/file"), []byte("below"), 0o644); err != nil {
		return "", err
	}
	err = onThread(unix.CLONE_FS|unix.CLONE_NEWNS, func() error {
		if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
			return fmt.Errorf("make mounts private: %w", err)
		}
		merged := filepath.Join(tmp, "merged")
		opts := fmt.Sprintf("lowerdir=%[1]s/lower,upperdir=%[1]s/upper,workdir=%[1]s/work", tmp)
		if err := unix.Mount("overlay", merged, "overlay", 0, opts); err != nil {
			return fmt.Errorf("mount overlay on %s: %w", dir, err)
		}
		return errors.Join(writeThrough(merged), unix.Unmount(merged, 0))
	})
	if err != nil {
		return "", err
	}
	if data, err := os.ReadFile(filepath.Join(tmp, "upper/file")); err != nil || string(data) != "above" {
		return "", fmt.Errorf("overlay on %s did not copy up: %q, %v", dir, data, err)
	}
	return "works on " + dir, nil
}

func writeThrough(merged string) error {
	data, err := os.ReadFile(filepath.Join(merged, "file"))
	if err != nil || string(data) != "below" {
		return fmt.Errorf("read through overlay: %q, %w", data, err)
	}
	return os.WriteFile(filepath.Join(merged, "file"), []byte("above"), 0o644)
}

// checkNftables writes what the engine needs, a nat chain with a rule, into a fresh network namespace. A host without
// nf_tables will do with iptables.
func checkNftables(context.Context) (string, error) {
	err := onThread(unix.CLONE_NEWNET, func() error {
		conn, err := nftables.New()
		if err != nil {
			return err
		}
		table := conn.AddTable(&nftables.Table{Name: "longshore-check", Family: nftables.TableFamilyINet})
		chain := conn.AddChain(&nftables.Chain{
			Name: "postrouting", Table: table, Type: nftables.ChainTypeNAT,
			Hooknum: nftables.ChainHookPostrouting, Priority: nftables.ChainPriorityNATSource,
		})
		conn.AddRule(&nftables.Rule{Table: table, Chain: chain, Exprs: []expr.Any{&expr.Counter{}, &expr.Masq{}}})
		if err := conn.Flush(); err != nil {
			return fmt.Errorf("write rules: %w", err)
		}
		rules, err := conn.GetRules(table, chain)
		if err == nil && len(rules) != 1 {
			err = fmt.Errorf("wrote 1 rule, read %d", len(rules))
		}
		return err
	})
	if err == nil {
		return "tables, nat and masquerading work", nil
	}
	if checkIPTables() == nil {
		return fmt.Sprintf("not here (%v); iptables works and is used instead", err), nil
	}
	return "", err
}

// checkIPTables writes a chain with iptables into a fresh network namespace.
func checkIPTables() error {
	return onThread(unix.CLONE_NEWNET, func() error {
		cmd := exec.Command("iptables-restore", "-w", "10", "--noflush")
		cmd.Stdin = strings.NewReader("*nat\n:LONGSHORE-CHECK - [0:0]\n-A LONGSHORE-CHECK -j MASQUERADE\nCOMMIT\n")
		return cmd.Run()
	})
}

// checkBridge makes a bridge with a veth pair on it in a fresh network namespace.
func checkBridge(context.Context) (string, error) {
	err := onThread(unix.CLONE_NEWNET, func() error {
		br := &netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: "check0"}}
		if err := netlink.LinkAdd(br); err != nil {
			return fmt.Errorf("add bridge: %w", err)
		}
		veth := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "check1", MasterIndex: br.Index}, PeerName: "check2"}
		if err := netlink.LinkAdd(veth); err != nil {
			return fmt.Errorf("add veth: %w", err)
		}
		return nil
	})
	if err != nil {
		return "", err
	}
	return "bridges and veth pairs work", nil
}
