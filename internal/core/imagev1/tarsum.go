package imagev1

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// TarSumVersion is the first part of a tarsum's label.
type TarSumVersion string

// The versions: the first counts times of modification, the later ones count extended attributes instead.
const (
	TarSum0   TarSumVersion = "tarsum"
	TarSum1   TarSumVersion = "tarsum.v1"
	TarSumDev TarSumVersion = "tarsum.dev"
)

func (v TarSumVersion) known() bool { return v == TarSum0 || v == TarSum1 || v == TarSumDev }

// maxEntries bounds the entries of a layer of which a tarsum is computed: 40 bytes are kept of each.
const maxEntries = 2_000_000

// ErrTooMany is a tar with more entries than a tarsum is computed of.
var ErrTooMany = fmt.Errorf("more than %d entries", maxEntries)

// TarSum computes docker's checksum of a layer's files: the sorted SHA-256 sums of every entry's header and content,
// after the image's document. r is the unpacked tar. The order of entries does not matter, but for those that have the
// same name.
func TarSum(v TarSumVersion, json []byte, r io.Reader) (Checksum, error) {
	var sums []entrySum
	names := map[string]int{}
	tr := tar.NewReader(r)
	h := sha256.New()
	for {
		hdr, err := tr.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return Checksum{}, fmt.Errorf("read tar: %w", err)
		}
		if len(sums) == maxEntries {
			return Checksum{}, ErrTooMany
		}
		h.Reset()
		headerSum(h, v, hdr)
		if _, err := io.Copy(h, tr); err != nil {
			return Checksum{}, fmt.Errorf("read tar: %w", err)
		}
		e := entrySum{}
		h.Sum(e.sum[:0])
		clean := strings.TrimSuffix(strings.TrimPrefix(hdr.Name, "./"), "/")
		if e.name = names[clean]; e.name == 0 {
			e.name = len(names) + 1
			names[clean] = e.name
		}
		sums = append(sums, e)
	}
	sortSums(sums, len(names) < len(sums))
	total := sha256.New()
	total.Write(json)
	var text [2 * sha256.Size]byte
	for i := range sums {
		hex.Encode(text[:], sums[i].sum[:])
		total.Write(text[:])
	}
	return Checksum{Version: v, Hex: hex.EncodeToString(total.Sum(nil))}, nil
}

// entrySum is the sum of one entry; name is the same number for the same name.
type entrySum struct {
	sum  [sha256.Size]byte
	name int
}

// sortSums orders by sum; entries of one name keep their order, as docker's sorting left them.
func sortSums(sums []entrySum, twice bool) {
	if !twice {
		slices.SortFunc(sums, func(a, b entrySum) int { return bytes.Compare(a.sum[:], b.sum[:]) })
		return
	}
	// With a name that stands twice docker compared by position in one case and by sum in the others. That is no order, and
	// what came out of it was the sorting algorithm's doing. Kept is what it meant: by sum, and equal names stay.
	slices.SortStableFunc(sums, func(a, b entrySum) int {
		if a.name == b.name {
			return 0
		}
		return bytes.Compare(a.sum[:], b.sum[:])
	})
}

// headerSum writes the header's fields in docker's order: name and value, without any separator.
func headerSum(w io.Writer, v TarSumVersion, h *tar.Header) {
	field := func(name, value string) {
		_, _ = io.WriteString(w, name) // a hash does not fail
		_, _ = io.WriteString(w, value)
	}
	field("name", h.Name)
	field("mode", strconv.FormatInt(h.Mode, 10))
	field("uid", strconv.Itoa(h.Uid))
	field("gid", strconv.Itoa(h.Gid))
	field("size", strconv.FormatInt(h.Size, 10))
	if v == TarSum0 {
		field("mtime", strconv.FormatInt(h.ModTime.Unix(), 10))
	}
	field("typeflag", string([]byte{h.Typeflag}))
	field("linkname", h.Linkname)
	field("uname", h.Uname)
	field("gname", h.Gname)
	field("devmajor", strconv.FormatInt(h.Devmajor, 10))
	field("devminor", strconv.FormatInt(h.Devminor, 10))
	if v == TarSum0 {
		return
	}
	const prefix = "SCHILY.xattr."
	for _, k := range slices.Sorted(maps.Keys(h.PAXRecords)) {
		if name, ok := strings.CutPrefix(k, prefix); ok {
			field(name, h.PAXRecords[k])
		}
	}
}
