package imagev1

import (
	"crypto/sha256"
	"encoding/hex"
	"hash"
	"strings"

	"longshore/internal/core/fault"
)

// Checksum is what a client says an image has.
type Checksum struct {
	// Version is "" for the checksum of the payload, else that of a tarsum: TarSum0, TarSum1 or TarSumDev.
	Version TarSumVersion
	// Hex is a SHA-256.
	Hex string
}

// ParseChecksum reads "sha256:<hex>", a bare "<hex>" (as the documents' examples have it) and tarsums such as
// "tarsum.v1+sha256:<hex>".
func ParseChecksum(s string) (Checksum, error) {
	var c Checksum
	label, sum, ok := strings.Cut(s, ":")
	if !ok {
		label, sum = "sha256", s
	}
	version, algorithm, isTarSum := strings.Cut(label, "+")
	if isTarSum {
		c.Version, label = TarSumVersion(version), algorithm
	}
	if _, err := ParseID(sum); err != nil || label != "sha256" || isTarSum && !c.Version.known() {
		return Checksum{}, fault.Invalid("Invalid checksum format")
	}
	c.Hex = sum
	return c, nil
}

// String is the form with a label.
func (c Checksum) String() string {
	if c.Version == "" {
		return "sha256:" + c.Hex
	}
	return string(c.Version) + "+sha256:" + c.Hex
}

// Payload computes the checksum of an image's payload: SHA-256 of the document, a line feed and the layer as it was sent.
type Payload struct{ h hash.Hash }

// NewPayload begins with the document; the layer is written to it.
func NewPayload(json []byte) *Payload {
	p := &Payload{h: sha256.New()}
	p.h.Write(json)
	p.h.Write([]byte{'\n'})
	return p
}

// Write implements io.Writer.
func (p *Payload) Write(b []byte) (int, error) { return p.h.Write(b) }

// Checksum is that of what was written so far.
func (p *Payload) Checksum() Checksum { return Checksum{Hex: hex.EncodeToString(p.h.Sum(nil))} }
