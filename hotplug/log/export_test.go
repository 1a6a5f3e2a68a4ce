package log

// SyslogAt lets tests play the syslog daemon.
var SyslogAt = syslogAt
