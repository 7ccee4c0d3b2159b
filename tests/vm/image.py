# SPDX-License-Identifier: MIT
"""
The root file system of the VM, as archives that the kernel unpacks into memory: no disk, no module,
no root. Its base is made of the files of packages that are installed here; what is tested lies
behind it in an archive of its own.
"""

import os
import re
import stat
import subprocess

# With what they depend on. The rest of a Debian is not needed, and takes time to unpack.
PACKAGES = ('bash', 'coreutils', 'dash', 'dbus', 'findutils', 'grep', 'mount', 'procps', 'python3',
            'sed', 'systemd', 'systemd-sysv', 'util-linux')
UNNEEDED = re.compile(r'^(adduser|debconf.*|dpkg|gcc-.*|gpgv|login|media-types|passwd|perl.*|'
                      r'sensible-utils|tzdata)$')
SKIPPED = re.compile(r'^/(boot|usr/lib/(modules|udev/hwdb\.d)|usr/share/(bash-completion|bug|doc|'
                     r'doc-base|info|lintian|locale|man|mime|perl.*|zoneinfo|zsh))/|'
                     r'\.(mo|pyc)$|/hwdb\.bin$')
PASSWD = '''\
root:x:0:0:root:/root:/bin/bash
messagebus:x:104:104::/nonexistent:/bin/false
nobody:x:65534:65534:nobody:/nonexistent:/bin/false
'''
GROUP = '''\
root:x:0:
dialout:x:20:
messagebus:x:104:
kvm:x:105:
nogroup:x:65534:
'''
FOLDERS = ('dev', 'proc', 'sys', 'run', 'tmp', 'var/tmp', 'var/lib', 'var/log', 'root', 'etc')


class Archive:
    """A cpio archive in the format "newc", as linux/Documentation/driver-api/early-userspace."""

    def __init__(self, file):
        self.file = file
        self.number = 0
        self.seen = set()

    def entry(self, name, mode, data=b'', device=(0, 0)):
        self.number += 1
        encoded = name.encode() + b'\0'
        fields = (self.number, mode, 0, 0, 1, 0, len(data), 0, 0, *device, len(encoded), 0)
        header = b'070701' + b''.join(b'%08X' % field for field in fields)
        self.file.write(header + encoded + b'\0' * (-(len(header) + len(encoded)) % 4))
        self.file.write(data + b'\0' * (-len(data) % 4))

    def folders_above(self, name):
        parts = name.split('/')[:-1]
        for i in range(1, len(parts) + 1):
            self.folder('/'.join(parts[:i]))

    def folder(self, name, mode=0o755):
        if name and name not in self.seen:
            self.folders_above(name)
            self.seen.add(name)
            self.entry(name, stat.S_IFDIR | mode)

    def link(self, name, target):
        if name not in self.seen:
            self.folders_above(name)
            self.seen.add(name)
            self.entry(name, stat.S_IFLNK | 0o777, target.encode())

    def device(self, name, major, minor):
        self.folders_above(name)
        self.entry(name, stat.S_IFCHR | 0o600, device=(major, minor))

    def text(self, name, text, mode=0o644):
        self.folders_above(name)
        self.seen.add(name)
        self.entry(name, stat.S_IFREG | mode, text.encode())

    def copy(self, path, name):
        """Copies what lies at a path; what may not be read is left out."""
        status = os.lstat(path)
        if name in self.seen:
            return
        if stat.S_ISLNK(status.st_mode):
            self.link(name, os.readlink(path))
        elif stat.S_ISDIR(status.st_mode):
            self.folder(name, stat.S_IMODE(status.st_mode))
        elif stat.S_ISREG(status.st_mode):
            try:
                with open(path, 'rb') as file:
                    data = file.read()
            except PermissionError:
                return
            self.folders_above(name)
            self.seen.add(name)
            self.entry(name, status.st_mode, data)

    def tree(self, root, under=''):
        for folder, folders, files in os.walk(root):
            for name in sorted(folders) + sorted(files):
                path = os.path.join(folder, name)
                self.copy(path, os.path.join(under, os.path.relpath(path, root)))

    def close(self):
        self.entry('TRAILER!!!', 0)


def installed():
    """Package → the packages of which it needs one each, for what is installed."""
    needs, provided = {}, {}
    form = '${Package}\t${db:Status-Status}\t${Provides}\t${Pre-Depends}, ${Depends}\n'
    listed = subprocess.run(['dpkg-query', '-W', '-f', form], check=True, capture_output=True,
                            text=True).stdout
    for line in listed.splitlines():
        package, status, provides, depends = line.split('\t')
        if status == 'installed':
            needs[package] = names(depends.replace('|', ','))
            for name in names(provides):
                provided.setdefault(name, package)
    return needs, provided


def names(text):
    return [re.sub(r'[ (:].*', '', part.strip()) for part in text.split(',') if part.strip()]


def closure(roots):
    needs, provided = installed()
    missing = [name for name in roots if name not in needs]
    if missing:
        raise SystemExit('not installed: ' + ' '.join(missing))
    found, open_names = set(), list(roots)
    while open_names:
        name = open_names.pop()
        name = name if name in needs else provided.get(name)
        if name and name not in found and not UNNEEDED.match(name):
            found.add(name)
            open_names += needs[name]
    return sorted(found)


def files_of(packages):
    listed = subprocess.run(['dpkg', '-L', *packages], check=True, capture_output=True, text=True)
    for path in sorted(set(listed.stdout.splitlines())):
        if path.startswith('/') and path != '/.' and not SKIPPED.search(path):
            yield path


def real_name(path):
    """Where a package's file is: its folder may be a link into /usr."""
    folder, name = os.path.split(path)
    return os.path.join(os.path.realpath(folder), name)[1:]


def make_base(path):
    """What does not change with what is tested."""
    with open(path + '.new', 'wb') as file:
        archive = Archive(file)
        for name in FOLDERS:
            archive.folder(name, 0o1777 if name.endswith('tmp') else 0o755)
        archive.device('dev/console', 5, 1)
        archive.device('dev/null', 1, 3)
        for name in ('bin', 'sbin', 'lib', 'lib64'):
            if os.path.islink('/' + name):
                archive.link(name, os.readlink('/' + name))
        for found in files_of(closure(PACKAGES)):
            if os.path.lexists(found):
                archive.copy(found, real_name(found))
        archive.link('usr/bin/awk', 'mawk')
        archive.text('etc/passwd', PASSWD)
        archive.text('etc/group', GROUP)
        archive.text('etc/shadow', 'root:*:19000:0:99999:7:::\n', 0o600)
        archive.text('etc/gshadow', 'root:*::\n', 0o600)
        archive.text('etc/machine-id', '')
        archive.text('etc/hostname', 'gateway\n')
        archive.text('etc/fstab', '')
        archive.link('etc/os-release', '../usr/lib/os-release')
        archive.close()
    os.rename(path + '.new', path)


def libraries_of(program):
    """The shared libraries of a program, by the names that it looks for."""
    listed = subprocess.run(['ldd', program], capture_output=True, text=True, check=False)
    return re.findall(r'=> (/\S+)', listed.stdout)


def add_libraries(archive, programs):
    found = set()
    for program in programs:
        found.update(libraries_of(program))
    for path in sorted(found):
        real = os.path.realpath(path)
        archive.copy(real, real[1:])
        if real != path:
            archive.link(real_name(path), os.path.relpath(real, os.path.dirname(real)))
