//go:build noboot

package control

import "devspool/nodes"

func (c *Server) handOver(*request) error { return errDeclined }

func (c *Server) switchRoot(*request) error { return errDeclined }

// TakeOver returns ErrRunning: this program leaves what an early boot needs out.
func TakeOver(*nodes.Dir) (socket int, err error) { return -1, ErrRunning }
