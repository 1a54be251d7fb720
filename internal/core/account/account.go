// Package account is the contract of the store of people, of the applications that act for them, and of the tokens that
// stand for both: only what proves a secret is kept, never the secret itself. Implementation: driver/sqlauth; the suite is
// in accounttest.
//
// A password is kept as its bcrypt hash. A token is 178 or more random bits and is kept as the SHA-256 of its text (Hash):
// it needs no salt and no stretching.
package account

import (
	"context"
	"time"

	"longshore/internal/core/credential"
)

// User is somebody with an account. Names are never given twice at a time and never change.
type User struct {
	// ID is told by the accounts API and never used again for somebody else.
	ID   int64
	Name string
	// PasswordHash is bcrypt's ("$2a$…").
	PasswordHash string
	Profile
	// Active users may log in. Admin users may do what adminPolicy allows, and write below "library".
	Active, Admin bool
	Joined        time.Time
}

// Profile is what a user tells about itself; every field may be empty.
type Profile struct {
	FullName, Location, Company, URL string
	// GravatarEmail is the address whose picture stands for the user; empty for the primary one's.
	GravatarEmail string
}

// Email is an address of a user. Exactly one of a user's is primary. Addresses are unique among all users, whatever the
// case of their letters.
type Email struct {
	Address string
	// Verified says that somebody has seen that the address is the user's.
	Verified, Primary bool
}

// Users keeps people. What a method changed is durable when it returns. Errors: ErrNotFound, ErrAlreadyExists.
type Users interface {
	// AddUser keeps a new user with its primary address and answers it with its ID. A name or an address that is taken is
	// ErrAlreadyExists.
	AddUser(ctx context.Context, u User, email Email) (User, error)
	UserByName(ctx context.Context, name string) (User, error)
	// UpdateUser changes a user in one transaction; concurrent changes follow one another. change must not call the store;
	// its error leaves everything as it was and is returned. ID, Name and Joined do not change.
	UpdateUser(ctx context.Context, name string, change func(*User) error) (User, error)
	// DeleteUser forgets a user, its addresses and its tokens.
	DeleteUser(ctx context.Context, name string) error
	// ListUsers lists at most n users with names after a name, in the order of their names.
	ListUsers(ctx context.Context, after string, n int) ([]User, error)
}

// Emails keeps addresses. A user that is not there has none, and cannot be given one (ErrNotFound).
type Emails interface {
	// EmailsOf lists the primary address, then the others in the order of their text.
	EmailsOf(ctx context.Context, user string) ([]Email, error)
	// AddEmail keeps another address, not as primary. One that anybody has is ErrAlreadyExists.
	AddEmail(ctx context.Context, user string, e Email) error
	// VerifyEmail marks an address as verified.
	VerifyEmail(ctx context.Context, user, address string) (Email, error)
	// MakePrimary makes an address the primary one instead of the one that was.
	MakePrimary(ctx context.Context, user, address string) (Email, error)
	// DeleteEmail forgets an address. The primary one stays: ErrFailedPrecondition.
	DeleteEmail(ctx context.Context, user, address string) error
}

// Client is an application that was registered to act for users who agree.
type Client struct {
	// ID is the client_id.
	ID string
	// SecretHash is Hash of the client_secret; empty for public clients, which must use PKCE instead.
	SecretHash string
	// Name and Description are shown to users who are asked.
	Name, Description string
	// RedirectURIs are where answers may be sent, compared letter by letter. The first one is the default.
	RedirectURIs []string
	Created      time.Time
}

// Public says that the client can keep no secret.
func (c *Client) Public() bool { return c.SecretHash == "" }

// Clients keeps applications. Errors: ErrNotFound, ErrAlreadyExists.
type Clients interface {
	AddClient(ctx context.Context, c Client) error
	ClientByID(ctx context.Context, id string) (Client, error)
	// ListClients lists all, in the order of their IDs.
	ListClients(ctx context.Context) ([]Client, error)
	// DeleteClient forgets a client and every token that it was given.
	DeleteClient(ctx context.Context, id string) error
}

// Kind says what a token is good for. A token of one kind is never taken for another.
type Kind string

// The kinds.
const (
	// Code is an authorization code of OAuth2: used once, for 60 seconds. Audience is the redirect URI.
	Code Kind = "code"
	// Access opens the accounts API, as far as Scope goes.
	Access Kind = "access"
	// Refresh gives another Access token once.
	Refresh Kind = "refresh"
	// Identity gives tokens of the registry again and again (docker's identity token). Audience is the service.
	Identity Kind = "identity"
	// Hub is the index's single-use token for a registry. Audience is the repository, Scope the access.
	Hub Kind = "hub"
	// Visit is a session of the registry API v1, which a Hub token opened. Audience and Scope are the token's.
	Visit Kind = "visit"
)

// Token is what is known about a token.
type Token struct {
	// Hash is Hash of its text.
	Hash string
	Kind Kind
	// User is whom it acts for; empty for nobody.
	User string
	// Proof is how the user had proved its name.
	Proof credential.Method
	// Client is the application that it was given to: an ID of Clients, or whatever a docker client calls itself.
	Client string
	// Grant names what the user once agreed to; RevokeGrant ends all that came of it.
	Grant string
	// Scope and Audience are told with the kinds. Challenge is a code's PKCE S256 challenge, empty for none; of Identity it is
	// a fingerprint of the user's password, with which the token ends.
	Scope, Audience, Challenge string
	Created                    time.Time
	// Expires and Used are zero for never.
	Expires, Used time.Time
}

// Expired says whether the token has ceased to be good.
func (t *Token) Expired(now time.Time) bool { return !t.Expires.IsZero() && !now.Before(t.Expires) }

// Tokens keeps tokens. What a method changed is durable when it returns; a revoked token is unknown from then on.
type Tokens interface {
	// AddToken keeps tokens, all or none. A hash that is taken is ErrAlreadyExists.
	AddToken(ctx context.Context, t ...Token) error
	// TokenByHash finds a token of a kind, used or expired ones too; else ErrNotFound.
	TokenByHash(ctx context.Context, kind Kind, hash string) (Token, error)
	// UseToken is TokenByHash and marks the token as used. Of all the calls for one token, one gets no error; the others
	// get the token and ErrFailedPrecondition, which is a replay.
	UseToken(ctx context.Context, kind Kind, hash string, at time.Time) (Token, error)
	// TokensOf lists a user's tokens, oldest first.
	TokensOf(ctx context.Context, user string) ([]Token, error)
	// RevokeGrant forgets the tokens of a grant. It is idempotent.
	RevokeGrant(ctx context.Context, grant string) error
	// RevokeUser forgets all tokens of a user. It is idempotent.
	RevokeUser(ctx context.Context, user string) error
	// SweepTokens forgets the tokens of a kind that expired or were used before.
	SweepTokens(ctx context.Context, kind Kind, before time.Time) error
}

// Store keeps everything.
type Store interface {
	Users
	Emails
	Clients
	Tokens
}
