package nftables

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	nft "github.com/google/nftables"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// checkEvery is how often Run looks after the tables by itself, besides being told of changes; settle is how long it
// lets somebody's changes come to an end before it follows them.
const (
	checkEvery = 30 * time.Second
	settle     = 50 * time.Millisecond
)

// Run repairs: when somebody changes our tables, they are installed anew, and when the host's own input rules change,
// published ports follow them. It ends with ctx.
func (f *Firewall) Run(ctx context.Context) error {
	w, err := watch()
	if err != nil {
		return err
	}
	return f.repairing(ctx, w)
}

// watch is told of all changes to tables of the network namespace.
func watch() (*netlink.Conn, error) {
	c, err := netlink.Dial(unix.NETLINK_NETFILTER, nil)
	if err != nil {
		return nil, fmt.Errorf("nftables: %w", err)
	}
	err = c.SetReadBuffer(acknowledgements) // our own tables' installation is told, too: hundreds of messages
	if err == nil {
		err = c.JoinGroup(unix.NFNLGRP_NFTABLES)
	}
	if err != nil {
		_ = c.Close()
		return nil, fmt.Errorf("nftables: watch: %w", err)
	}
	return c, nil
}

// damage is what somebody else's changes did. lost says that messages found no room: the kernel tells it once, and drops
// more without a word until the socket has been read empty, so that only an installation after that moment counts.
type damage struct{ ours, others, lost bool }

// repairing owns the connection. Messages that were lost for want of room, and silence, lead to a look of its own.
func (f *Firewall) repairing(ctx context.Context, w *netlink.Conn) error {
	defer w.Close()
	defer context.AfterFunc(ctx, func() { _ = w.Close() })()
	seen := damage{others: true} // what changed before Run began counts, too
	if err := f.Repair(); err != nil {
		f.log.Error("the firewall's tables are out of order", "error", err)
	}
	for {
		wait := checkEvery
		if seen.others || seen.lost {
			wait = settle
		}
		_ = w.SetReadDeadline(time.Now().Add(wait))
		messages, err := w.Receive()
		switch {
		case ctx.Err() != nil:
			return nil
		case err == nil:
			f.judge(messages, &seen)
			if seen.ours {
				err = f.reinstall()
			}
		case errors.Is(err, unix.ENOBUFS):
			seen.lost = true
			err = f.reinstall()
		case errors.Is(err, os.ErrDeadlineExceeded) && seen.lost:
			err = f.reinstall()
			seen.lost, seen.others = false, false
		case errors.Is(err, os.ErrDeadlineExceeded) && seen.others:
			err = f.follow()
			seen.others = false
		case errors.Is(err, os.ErrDeadlineExceeded):
			err = f.Repair()
		default:
			return fmt.Errorf("nftables: watch: %w", err)
		}
		seen.ours = false
		if err != nil {
			f.log.Error("the firewall's tables are out of order", "error", err)
		}
	}
}

// judge tells what changes are others' doing, by the sender of the message and the table that it names.
func (f *Firewall) judge(messages []netlink.Message, d *damage) {
	f.mu.Lock()
	self := f.sender
	f.mu.Unlock()
	for _, m := range messages {
		if m.Header.PID == self || len(m.Data) < nfgenmsgLen {
			continue
		}
		kind := int(m.Header.Type) & 0xff
		if kind == unix.NFT_MSG_NEWGEN {
			continue
		}
		family := nft.TableFamily(m.Data[0])
		name := tableOf(m.Data[nfgenmsgLen:])
		switch {
		case name == Table && (family == nft.TableFamilyIPv4 || family == nft.TableFamilyIPv6):
			d.ours = true
		case name == AdminTable && family == nft.TableFamilyINet:
			d.ours = d.ours || kind == unix.NFT_MSG_DELTABLE || kind == unix.NFT_MSG_DELCHAIN
		default:
			d.others = true
		}
	}
}

// tableOf reads the table's name, which is the first attribute of every kind of message.
func tableOf(b []byte) string {
	ad, err := netlink.NewAttributeDecoder(b)
	if err != nil {
		return ""
	}
	for ad.Next() {
		if ad.Type() == unix.NFTA_TABLE_NAME {
			return ad.String()
		}
	}
	return ""
}

func (f *Firewall) reinstall() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.install()
}

// follow installs the tables anew when the host's own rules say something else than before.
func (f *Firewall) follow() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	m, err := f.reflect()
	if err != nil || m.same(f.mirror) {
		return err
	}
	return f.install()
}

// Repair installs the tables anew when one of them is missing.
func (f *Firewall) Repair() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	c, err := f.connection()
	if err != nil {
		return err
	}
	tables, err := c.ListTables()
	if err != nil {
		f.drop()
		return fmt.Errorf("nftables: list tables: %w", err)
	}
	found := 0
	for _, t := range tables {
		if t.Name == Table && (t.Family == nft.TableFamilyIPv4 || t.Family == nft.TableFamilyIPv6) {
			found++
		}
	}
	if found == len(families(f.cfg)) {
		return nil
	}
	return f.install()
}
