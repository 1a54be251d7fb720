package distribution

import (
	"fmt"
	"net/http"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
)

// Code is an error code of the OCI distribution specification, section "Error Codes".
type Code string

// The codes of the specification, and UNKNOWN for what it does not name.
const (
	CodeBlobUnknown         Code = "BLOB_UNKNOWN"
	CodeBlobUploadInvalid   Code = "BLOB_UPLOAD_INVALID"
	CodeBlobUploadUnknown   Code = "BLOB_UPLOAD_UNKNOWN"
	CodeDigestInvalid       Code = "DIGEST_INVALID"
	CodeManifestBlobUnknown Code = "MANIFEST_BLOB_UNKNOWN"
	CodeManifestInvalid     Code = "MANIFEST_INVALID"
	CodeManifestUnknown     Code = "MANIFEST_UNKNOWN"
	CodeNameInvalid         Code = "NAME_INVALID"
	CodeNameUnknown         Code = "NAME_UNKNOWN"
	CodeSizeInvalid         Code = "SIZE_INVALID"
	CodeUnauthorized        Code = "UNAUTHORIZED"
	CodeDenied              Code = "DENIED"
	CodeUnsupported         Code = "UNSUPPORTED"
	CodeTooManyRequests     Code = "TOOMANYREQUESTS"
	CodeUnknown             Code = "UNKNOWN"
)

// Error is an error of the registry: Code, Message and Detail go to the client, Class decides the status.
type Error struct {
	Code    Code
	Message string
	// Detail is any value that encodes as JSON, or nil.
	Detail any
	// Class is an errdefs class or one of ErrRange, ErrTooLarge, ErrMethod.
	Class error
}

// Error is code and message.
func (e *Error) Error() string { return string(e.Code) + ": " + e.Message }

// Unwrap gives the class.
func (e *Error) Unwrap() error { return e.Class }

// class is an error class whose status errdefs has no word for.
type class struct {
	text   string
	status int
}

func (c *class) Error() string { return c.text }

// HTTPStatus is read by server/httperr.
func (c *class) HTTPStatus() int { return c.status }

// Classes beside those of errdefs.
var (
	// ErrRange is a chunk out of order or a range that cannot be satisfied (416).
	ErrRange error = &class{"requested range not satisfiable", http.StatusRequestedRangeNotSatisfiable}
	// ErrTooLarge is a body over the limit (413).
	ErrTooLarge error = &class{"payload too large", http.StatusRequestEntityTooLarge}
	// ErrMethod is an operation that is switched off or refused for this object (405).
	ErrMethod error = &class{"method not allowed", http.StatusMethodNotAllowed}
	// ErrMediaType is a manifest of a type that cannot be stored (415).
	ErrMediaType error = &class{"unsupported media type", http.StatusUnsupportedMediaType}
)

// NewError makes an error from a code, a class and a text.
func NewError(code Code, class error, format string, a ...any) *Error {
	return &Error{Code: code, Class: class, Message: fmt.Sprintf(format, a...)}
}

// NameInvalid is NAME_INVALID (400).
func NameInvalid(name string) error {
	return &Error{Code: CodeNameInvalid, Class: errdefs.ErrInvalidArgument, Message: "invalid repository name", Detail: map[string]string{"name": clip(name)}}
}

// NameUnknown is NAME_UNKNOWN (404).
func NameUnknown(name RepoName) error {
	return &Error{Code: CodeNameUnknown, Class: errdefs.ErrNotFound, Message: "repository name not known to registry", Detail: map[string]string{"name": string(name)}}
}

// tagInvalid: the specification has no code for a bad tag; distribution and zot answer with the manifest's.
func tagInvalid(tag string) error {
	return &Error{Code: CodeManifestInvalid, Class: errdefs.ErrInvalidArgument, Message: "invalid tag", Detail: map[string]string{"tag": clip(tag)}}
}

// DigestInvalid is DIGEST_INVALID (400).
func DigestInvalid(format string, a ...any) error {
	return NewError(CodeDigestInvalid, errdefs.ErrInvalidArgument, format, a...)
}

// SizeInvalid is SIZE_INVALID (400).
func SizeInvalid(format string, a ...any) error {
	return NewError(CodeSizeInvalid, errdefs.ErrInvalidArgument, format, a...)
}

// BlobUnknown is BLOB_UNKNOWN (404).
func BlobUnknown(d digest.Digest) error {
	return &Error{Code: CodeBlobUnknown, Class: errdefs.ErrNotFound, Message: "blob unknown to registry", Detail: map[string]string{"digest": d.String()}}
}

// UploadUnknown is BLOB_UPLOAD_UNKNOWN (404).
func UploadUnknown(id string) error {
	return &Error{Code: CodeBlobUploadUnknown, Class: errdefs.ErrNotFound, Message: "blob upload unknown to registry", Detail: map[string]string{"id": clip(id)}}
}

// UploadRange is BLOB_UPLOAD_INVALID of class ErrRange (416): the chunk does not begin at the upload's offset.
func UploadRange(format string, a ...any) error {
	return NewError(CodeBlobUploadInvalid, ErrRange, format, a...)
}

// UploadInvalid is BLOB_UPLOAD_INVALID (400).
func UploadInvalid(format string, a ...any) error {
	return NewError(CodeBlobUploadInvalid, errdefs.ErrInvalidArgument, format, a...)
}

// ManifestUnknown is MANIFEST_UNKNOWN (404).
func ManifestUnknown(ref Reference) error {
	return &Error{Code: CodeManifestUnknown, Class: errdefs.ErrNotFound, Message: "manifest unknown to registry", Detail: map[string]string{"reference": ref.String()}}
}

// ManifestInvalid is MANIFEST_INVALID (400).
func ManifestInvalid(format string, a ...any) error {
	return NewError(CodeManifestInvalid, errdefs.ErrInvalidArgument, format, a...)
}

// ManifestBlobUnknown is MANIFEST_BLOB_UNKNOWN (404 in the reference implementation; the specification allows any 4xx).
func ManifestBlobUnknown(missing []digest.Digest) error {
	return &Error{Code: CodeManifestBlobUnknown, Class: errdefs.ErrNotFound, Message: "manifest references a manifest or blob unknown to registry", Detail: map[string]any{"digests": missing}}
}

// Denied is DENIED (403).
func Denied(format string, a ...any) error {
	return NewError(CodeDenied, errdefs.ErrPermissionDenied, format, a...)
}

// TooMany is TOOMANYREQUESTS (429).
func TooMany(format string, a ...any) error {
	return NewError(CodeTooManyRequests, errdefs.ErrResourceExhausted, format, a...)
}

// clip keeps hostile names from filling an answer or a log.
func clip(s string) string {
	if len(s) > 300 {
		return s[:300] + "…"
	}
	return s
}
