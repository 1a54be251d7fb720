package nftables

import (
	"encoding/binary"
	"fmt"

	nft "github.com/google/nftables"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// expressions counts the expressions of all rules of the namespace as the kernel tells them. The library leaves out those
// that it does not know, and a copy of a rule without one of its conditions would be another rule.
func expressions() (map[ruleID]int, error) {
	c, err := netlink.Dial(unix.NETLINK_NETFILTER, nil)
	if err != nil {
		return nil, fmt.Errorf("nftables: %w", err)
	}
	defer c.Close()
	messages, err := c.Execute(netlink.Message{
		Header: netlink.Header{
			Type:  netlink.HeaderType(unix.NFNL_SUBSYS_NFTABLES<<8 | unix.NFT_MSG_GETRULE),
			Flags: netlink.Request | netlink.Dump,
		},
		Data: []byte{unix.AF_UNSPEC, unix.NFNETLINK_V0, 0, 0},
	})
	if err != nil {
		return nil, fmt.Errorf("nftables: list rules: %w", err)
	}
	out := map[ruleID]int{}
	for _, m := range messages {
		if len(m.Data) < nfgenmsgLen {
			continue
		}
		id, n, err := countRule(m.Data)
		if err != nil {
			return nil, fmt.Errorf("nftables: list rules: %w", err)
		}
		out[id] = n
	}
	return out, nil
}

// countRule reads one rule's message.
func countRule(data []byte) (id ruleID, n int, err error) {
	id.family = nft.TableFamily(data[0])
	ad, err := netlink.NewAttributeDecoder(data[nfgenmsgLen:])
	if err != nil {
		return id, 0, err
	}
	ad.ByteOrder = binary.BigEndian
	for ad.Next() {
		switch ad.Type() {
		case unix.NFTA_RULE_TABLE:
			id.table = ad.String()
		case unix.NFTA_RULE_HANDLE:
			id.handle = ad.Uint64()
		case unix.NFTA_RULE_EXPRESSIONS:
			ad.Nested(func(list *netlink.AttributeDecoder) error {
				for list.Next() {
					n++
				}
				return nil
			})
		}
	}
	return id, n, ad.Err()
}
