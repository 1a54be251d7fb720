package network

import (
	"errors"
	"math"
	"math/big"
	"net/netip"

	"github.com/containerd/errdefs"

	"longshore/internal/core/fault"
)

// ErrNoAddress says that every address of a subnet's range is taken. The owner of the subnet says it in docker's
// words, which name the network.
var ErrNoAddress = errors.New("no available addresses on this pool")

// Subnet hands out the addresses of one subnet. Allocation is next-fit: an address that was released is not given
// again before all others of the range were, so that nobody's stale ARP entry or connection meets a new container.
//
// A Subnet is not safe for concurrent use; its owner locks it. It holds no state of its own on disk: the owner takes
// the addresses of live endpoints again after a restart.
type Subnet struct {
	prefix netip.Prefix
	rng    netip.Prefix
	used   map[netip.Addr]struct{}
	last   netip.Addr
}

// NewSubnet makes an empty subnet. rng limits dynamic allocation and is the whole prefix when it is not valid. The
// network's own address and, for IPv4, its broadcast address are taken from the start where the subnet has them.
func NewSubnet(prefix, rng netip.Prefix) *Subnet {
	s := &Subnet{prefix: prefix.Masked(), rng: rng.Masked(), used: map[netip.Addr]struct{}{}}
	if !rng.IsValid() {
		s.rng = s.prefix
	}
	if s.prefix.Addr().BitLen()-s.prefix.Bits() > 1 {
		s.used[s.prefix.Addr()] = struct{}{}
		if s.prefix.Addr().Is4() {
			s.used[lastAddr(s.prefix)] = struct{}{}
		}
	}
	return s
}

// Prefix is the subnet.
func (s *Subnet) Prefix() netip.Prefix { return s.prefix }

// Take reserves one address, which may lie outside of the range but not outside of the subnet.
func (s *Subnet) Take(a netip.Addr) error {
	a = a.Unmap()
	if !s.prefix.Contains(a) {
		return fault.Invalid("requested address is out of range")
	}
	if _, ok := s.used[a]; ok {
		return fault.Forbidden("Address already in use")
	}
	s.used[a] = struct{}{}
	return nil
}

// Next reserves the next free address of the range, or fails with ErrNoAddress.
func (s *Subnet) Next() (netip.Addr, error) {
	a := s.last
	if !a.IsValid() {
		a = s.rng.Addr().Prev()
	}
	for n := s.tries(); n > 0; n-- {
		a = a.Next()
		if !a.IsValid() || !s.rng.Contains(a) {
			a = s.rng.Addr()
		}
		if _, ok := s.used[a]; !ok {
			s.used[a], s.last = struct{}{}, a
			return a, nil
		}
	}
	return netip.Addr{}, ErrNoAddress
}

// tries bounds a search: a free address is met at the latest after one more step than there are used ones.
func (s *Subnet) tries() int {
	free := s.rng.Addr().BitLen() - s.rng.Bits()
	if free < 32 && 1<<free <= len(s.used) {
		return 1 << free
	}
	return len(s.used) + 1
}

// Release gives an address back; one that is not taken is no error.
func (s *Subnet) Release(a netip.Addr) {
	a = a.Unmap()
	if s.prefix.Contains(a) {
		delete(s.used, a)
	}
}

// Status counts the addresses that are in use or reserved, and those of the range that can still be given out; both
// saturate at 2^64-1, as docker's status of a network does.
func (s *Subnet) Status() (inUse, available uint64) {
	inRange := 0
	for a := range s.used {
		if s.rng.Contains(a) {
			inRange++
		}
	}
	size := new(big.Int).Lsh(big.NewInt(1), uint(s.rng.Addr().BitLen()-s.rng.Bits()))
	size.Sub(size, big.NewInt(int64(inRange)))
	if !size.IsUint64() {
		return uint64(len(s.used)), math.MaxUint64
	}
	return uint64(len(s.used)), size.Uint64()
}

// lastAddr is the highest address of a prefix.
func lastAddr(p netip.Prefix) netip.Addr {
	b := p.Addr().AsSlice()
	for i := p.Bits(); i < len(b)*8; i++ {
		b[i/8] |= 1 << (7 - i%8)
	}
	a, _ := netip.AddrFromSlice(b)
	return a
}

// AddressPool is one entry of --default-address-pool: subnets of Size bits are cut out of Base.
type AddressPool struct {
	Base netip.Prefix
	Size int
}

// DefaultPools are docker's address pools for networks that ask for no subnet.
func DefaultPools() []AddressPool {
	return []AddressPool{
		{netip.MustParsePrefix("172.17.0.0/16"), 16}, {netip.MustParsePrefix("172.18.0.0/16"), 16},
		{netip.MustParsePrefix("172.19.0.0/16"), 16}, {netip.MustParsePrefix("172.20.0.0/14"), 16},
		{netip.MustParsePrefix("172.24.0.0/14"), 16}, {netip.MustParsePrefix("172.28.0.0/14"), 16},
		{netip.MustParsePrefix("192.168.0.0/16"), 20},
	}
}

// ParsePool checks a pool as configured, in docker's words.
func ParsePool(base string, size int) (AddressPool, error) {
	p, err := netip.ParsePrefix(base)
	if err != nil {
		return AddressPool{}, fault.Invalid("invalid base pool %q: %w", base, err)
	}
	if p != p.Masked() || size < p.Bits() || size > p.Addr().BitLen() {
		return AddressPool{}, fault.Invalid("invalid pool size %d for base %s", size, p)
	}
	return AddressPool{Base: p, Size: size}, nil
}

// Sized are the pools cut into subnets of another size, as a client asks for them by a subnet without address
// (0.0.0.0/24); pools that are smaller are left out.
func Sized(pools []AddressPool, bits int) []AddressPool {
	var out []AddressPool
	for _, p := range pools {
		if bits >= p.Base.Bits() && bits <= p.Base.Addr().BitLen() {
			out = append(out, AddressPool{Base: p.Base, Size: bits})
		}
	}
	return out
}

// Choose finds the first subnet of a family in the pools that overlaps nothing in taken (subnets of other networks,
// routes of the host).
func Choose(pools []AddressPool, taken []netip.Prefix, ipv6 bool) (netip.Prefix, error) {
	for _, pool := range pools {
		if pool.Base.Addr().Is6() != ipv6 {
			continue
		}
		for p := netip.PrefixFrom(pool.Base.Addr(), pool.Size); ; {
			hit, ok := overlap(p, taken)
			if !ok {
				return p, nil
			}
			next := lastAddr(p)
			if hit.Bits() < p.Bits() {
				next = lastAddr(hit.Masked())
			}
			a := next.Next()
			if !a.IsValid() || !pool.Base.Contains(a) {
				break
			}
			p = netip.PrefixFrom(a, pool.Size)
		}
	}
	return netip.Prefix{}, fault.Invalid("all predefined address pools have been fully subnetted")
}

func overlap(p netip.Prefix, taken []netip.Prefix) (netip.Prefix, bool) {
	for _, t := range taken {
		if t.IsValid() && t.Bits() > 0 && t.Overlaps(p) {
			return t, true
		}
	}
	return netip.Prefix{}, false
}

// Overlaps says whether a prefix overlaps any of the taken ones; default routes (/0) do not count.
func Overlaps(p netip.Prefix, taken []netip.Prefix) bool {
	_, ok := overlap(p, taken)
	return ok
}

// IsTaken says whether err is Take's answer for an address that is in use.
func IsTaken(err error) bool { return errors.Is(err, errdefs.ErrPermissionDenied) }
