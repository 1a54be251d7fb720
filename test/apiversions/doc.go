// Package apiversions judges every API version from outside: the table of routes against the published endpoints, the
// daemon's bytes on the wire at each boundary, clients of each era, and the published schemas.
package apiversions
