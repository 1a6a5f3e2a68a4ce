package identity

import "strings"

// scsiDevice returns the SCSI device that the device is or hangs at, or nil.
func (s *subject) scsiDevice() *dir {
	for d := s.base; d != nil; d = d.up {
		if parseSCSI(d.name()) != nil && d.readSubsystem() == "scsi" {
			return d
		}
	}
	return nil
}

// inquiry is what every SCSI device answers, as the device says it.
type inquiry struct{ vendor, model, revision, kind string }

// scsiTypes names the peripheral device types of SPC, by the decimal numbers that sysfs has.
const scsiTypes = " 0disk 1tape 4optical 5cd 7optical 14disk 15optical "

// readInquiry takes it from sysfs, where the kernel keeps it from the scan of the bus.
func readInquiry(scsi *dir) inquiry {
	kind := "generic" // any type that has no name
	if code := scsi.value("type"); code != "" {
		if _, rest, found := strings.Cut(scsiTypes, " "+code); found && !isDigit(rest[0]) {
			kind, _, _ = strings.Cut(rest, " ")
		}
	}
	return inquiry{scsi.value("vendor"), scsi.value("model"), scsi.value("rev"), kind}
}

// maxPage is how much of a page of vital product data counts.
const maxPage = 4 + 254

// pageNames reads what names a SCSI device.
func pageNames(scsi *dir, q *inquiry) scsiNames {
	return parsePages(scsi.bytes("vpd_pg83", maxPage), scsi.bytes("vpd_pg80", maxPage), q.vendor, q.model)
}

// scsiID describes a disk by SCSI's own means.
func (s *subject) scsiID() {
	scsi := s.scsiDevice()
	if scsi == nil {
		return
	}
	q := readInquiry(scsi)
	n := pageNames(scsi, &q)
	s.setAll("ID_", "SCSI VENDOR VENDOR_ENC MODEL MODEL_ENC REVISION TYPE SERIAL SERIAL_SHORT", []string{
		"1", word(q.vendor, 63), encode(q.vendor), word(q.model, 63), encode(q.model), word(q.revision, 63), q.kind,
		word(n.serial, 255), word(n.short, 255)})
	if n.wwn != "" {
		s.set("ID_WWN", "0x"+n.wwn)
		if n.extension != "" {
			s.set("ID_WWN_VENDOR_EXTENSION", "0x"+n.extension)
		}
		s.set("ID_WWN_WITH_EXTENSION", "0x"+n.wwn+n.extension)
	}
	s.setAll("ID_", "TARGET_PORT SCSI_SERIAL BUS", []string{n.targetPort, strings.Trim(n.unitSerial, " \x00"), "scsi"})
}

// scsiNames is what the pages of vital product data give.
type scsiNames struct{ serial, short, wwn, extension, targetPort, unitSerial string }

// Kinds of designators in page 0x83 (SPC-4, 7.8.6).
const (
	designatorVendorSpecific = '0'
	designatorNAA            = '3'
	designatorPortGroup      = '5'
)

// designators are those that may name a disk, the best first: the kind, the type of NAA
// or 0 for any, and 1 for binary or 2 for ASCII.
const designators = "501 361 362 351 352 301 302 201 202 101 102 001 002"

// The lengths of fields in the answer to INQUIRY.
const (
	vendorLength = 8
	modelLength  = 16
)

// parsePages reads the pages 0x83 and 0x80, "" where the device has none.
func parsePages(page83, page80, vendor, model string) (n scsiNames) {
	// A name by the maker has both fields at their full lengths, with the blanks that fill them.
	maker := ""
	if len(vendor) >= vendorLength && len(model) >= modelLength {
		maker = vendor[:vendorLength] + model[:modelLength]
	}
	has80 := len(page80) > 4 && page80[1] == 0x80
	if has80 {
		n.unitSerial = cutNUL(page80[4:min(len(page80), 4+int(page80[3]))])
	}
	if len(page83) > 6 && page83[1] == 0x83 {
		if page83[6] != 0 {
			// The page as SCSI-2 has it: a name without a designator around it.
			n.serial = "3" + hexText(page83[4:min(len(page83), 4+int(page83[3]), 4+126)])
			n.short = n.serial
			return n
		}
		for i := 0; i < len(designators); i += 4 {
			if n.search(page83, designators[i:i+3], maker) {
				return n
			}
		}
	}
	if has80 && maker != "" {
		n.serial, n.short = "S"+maker+n.unitSerial, n.unitSerial
	}
	return n
}

// search looks for one kind of designator in page 0x83. It reports whether one gave the serial number; a
// port group never does, and only sets targetPort.
func (n *scsiNames) search(page, which, maker string) bool {
	kind, naa := which[0], which[1]-'0'
	length := int(page[2])<<8 | int(page[3])
	for rest := page[4:min(len(page), 4+length)]; len(rest) > 4; {
		end := min(len(rest), 4+int(rest[3]))
		code, about, data := rest[0]&0xf, rest[1], rest[4:end]
		rest = rest[end:]
		// What is named: 0 is the disk itself, 0x10 the port that it was asked by. Of names of
		// ports only the group counts, which says by which path the disk is reached.
		association := about & 0x30
		if about&0xf+'0' != kind || code+'0' != which[2] || data == "" || naa != 0 && data[0]>>4 != naa ||
			association != 0 && !(association == 0x10 && kind == designatorPortGroup) {
			continue
		}
		if code == 1 {
			data = hexText(data[:min(len(data), 126)])
		}
		n.short = cutNUL(data)
		switch kind {
		case designatorPortGroup:
			if len(data) >= 8 {
				n.targetPort = strings.TrimLeft(data[4:7], "0") + data[7:8]
			}
			continue
		case designatorVendorSpecific:
			if maker == "" {
				continue
			}
			n.serial = "0" + maker + n.short
			return true
		case designatorNAA:
			n.wwn = n.short[:min(len(n.short), 16)]
			n.extension = n.short[len(n.wwn):min(len(n.short), 32)]
		}
		n.serial = string(kind) + n.short
		return true
	}
	n.short = ""
	return false
}
