"""Programs that a model might write, or an attacker: each tries to harm the machine that checks it.

`{port}`: a server on this machine. `{secret}`: the path of a file of the user. `{folder}`: a folder of the user.
`{parent}`: the process that runs the check.
"""

PROGRAMS = {
    # --- time
    "endless loop": "while True: pass",
    "sleeps for a day": "import time; time.sleep(86400)",
    "waits for input": "import sys; sys.stdin.read(); import time; time.sleep(60)",
    "ignores every signal": """
import signal, time
for n in range(1, 65):
    try: signal.signal(n, signal.SIG_IGN)
    except (OSError, ValueError): pass
while True: time.sleep(1)
""",
    "catches every exception": """
while True:
    try:
        while True: pass
    except BaseException: pass
""",
    "regular expression without end": "import re; re.match('(a+)+$', 'a' * 40 + 'b')",
    "huge power": "print(len(str(9 ** 9 ** 9)))",
    "stops itself": "import os, signal; os.kill(os.getpid(), signal.SIGSTOP)",
    "many threads": """
import threading, time
while True:
    try: threading.Thread(target=time.sleep, args=(60,)).start()
    except RuntimeError: time.sleep(0.1)
""",
    # --- processes
    "fork bomb": """
import os
while True:
    try: os.fork()
    except OSError: pass
""",
    "fork bomb of a shell": "import os; os.system('f(){ f|f& };f'); import time; time.sleep(60)",
    "daemon that outlives its parent": """
import os, time
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        time.sleep(600)
    os._exit(0)
""",
    "daemon with closed streams": """
import os, time
if os.fork() == 0:
    os.setsid()
    for n in range(3): os.close(n)
    while True: time.sleep(1)
""",
    "child that holds the output": """
import os, time
if os.fork() == 0: time.sleep(600)
""",
    "nohup": "import os; os.system('nohup setsid sleep 600 >/dev/null 2>&1 &')",
    "kills everything": "import os, signal; os.kill(-1, signal.SIGKILL)",
    "kills its parent": "import os, signal; os.kill(os.getppid(), signal.SIGKILL)",
    "kills the init": "import os, signal; os.kill(1, signal.SIGKILL)",
    "kills the checking process": "import os, signal; os.kill({parent}, signal.SIGKILL)",
    "stops its group": "import os, signal; os.killpg(0, signal.SIGSTOP)",
    "traces its parent": """
import ctypes, os
libc = ctypes.CDLL(None, use_errno=True)
assert libc.ptrace(16, os.getppid(), 0, 0) == -1 and libc.ptrace(16, 1, 0, 0) == -1
print('REFUSED')
""",
    "reads the memory of its parent": """
import os
for pid in (1, os.getppid()):
    try: open(f'/proc/{pid}/mem', 'rb').read(10); print('ESCAPED')
    except OSError: print('REFUSED')
""",
    "raises its limits": """
import resource
for which in (resource.RLIMIT_NOFILE, resource.RLIMIT_FSIZE, resource.RLIMIT_CPU):
    try: resource.setrlimit(which, (2**40, 2**40)); print('ESCAPED')
    except (ValueError, OSError): print('REFUSED')
""",
    "raises its priority": """
import os
before = os.nice(0)
try: os.nice(-20)
except OSError: pass
print('ESCAPED' if os.nice(0) < before else 'REFUSED')
""",
    # --- memory and disk
    "memory bomb": "x = []\nwhile True: x.append(bytearray(10**7))",
    "memory bomb in children": """
import os
for _ in range(30): os.fork()
x = []
while True: x.append(bytearray(10**7))
""",
    "one huge allocation": "x = bytearray(2**45)",
    "anonymous files": """
import os
held = []
try:
    while True:
        held.append(os.memfd_create('x')); os.write(held[-1], bytes(10**7))
except OSError: print('REFUSED')
""",
    "shared memory": """
held = []
try:
    for n in range(10**6):
        held.append(open(f'/dev/shm/{n}', 'wb')); held[-1].write(bytes(10**7)); held[-1].flush()
except OSError: print('REFUSED')
""",
    "System V shared memory": """
import ctypes
assert ctypes.CDLL(None).shmget(1234, 10**8, 0o1777) == -1
print('REFUSED')
""",
    "disk bomb": """
try:
    with open('/tmp/bomb', 'wb') as file:
        while True: file.write(bytes(10**7))
except OSError: print('REFUSED')
""",
    "disk bomb of many files": """
try:
    for n in range(10**6): open(f'/tmp/{n}', 'wb').write(bytes(10**6))
except OSError: print('REFUSED')
""",
    "file names without end": """
import os
try:
    while True: os.mkdir('d'); os.chdir('d')
except OSError: print('REFUSED')
""",
    "descriptors": """
import os
held = []
try:
    while True: held.append(os.open('/dev/null', os.O_RDONLY))
except OSError: print('REFUSED')
""",
    "pipes": """
import os
held = []
try:
    while True: held.append(os.pipe()); os.write(held[-1][1], bytes(60000))
except OSError: print('REFUSED')
""",
    "deep recursion": "import sys; sys.setrecursionlimit(10**9)\ndef f(): f()\nf()",
    "forks and exits for ever": """
import os
while True:
    if os.fork(): os._exit(0)
""",
    "messages without end": """
import ctypes
libc = ctypes.CDLL(None, use_errno=True)
queues = [libc.msgget(n, 0o1666) for n in range(1, 2000)]
print('REFUSED' if max(queues) == -1 else 'ESCAPED')
""",
    "sparse file": """
try:
    with open('/tmp/sparse', 'wb') as file: file.truncate(2**50)
    print('ESCAPED')
except OSError: print('REFUSED')
""",
    "locks memory": """
import ctypes
held = ctypes.create_string_buffer(10**8)
print('ESCAPED' if ctypes.CDLL(None).mlock(held, 10**8) == 0 else 'REFUSED')
""",
    "watches without end": """
import ctypes
libc = ctypes.CDLL(None)
try:
    while (descriptor := libc.inotify_init()) >= 0:
        for n in range(100): libc.inotify_add_watch(descriptor, b'/tmp', 2 + n)
finally: print('REFUSED')
""",
    "asks for real time": """
import os
try: os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(99)); print('ESCAPED')
except OSError: print('REFUSED')
while True: pass
""",
    "protects itself from the memory limit": """
try: open('/proc/self/oom_score_adj', 'wb', 0).write(b'-1000'); print('ESCAPED')
except OSError: print('REFUSED')
""",
    "leaves its control group": """
import glob, os
for path in ['/sys/fs/cgroup/cgroup.procs', *glob.glob('/sys/fs/cgroup/*/cgroup.procs')]:
    try: open(path, 'wb', 0).write(b'%d' % os.getpid()); print('ESCAPED', path)
    except OSError: pass
print('REFUSED')
""",
    # --- output
    "huge output": "while True: print('x' * 10**6)",
    "huge errors": "import sys\nwhile True: sys.stderr.write('x' * 10**6)",
    "output of many children": """
import os
for _ in range(4): os.fork()
while True: print('x' * 10**5, flush=True)
""",
    "control characters": "import sys; sys.stdout.buffer.write(bytes(range(256)) * 10)",
    "one line without end": "import sys\nwhile True: sys.stdout.write('x' * 10**6)",
    "writes to the terminal": "open('/dev/tty', 'w').write('ESCAPED')",
    "types into the terminal": """
import fcntl, termios
for stream in range(3):
    try: fcntl.ioctl(stream, termios.TIOCSTI, b'x'); print('ESCAPED')
    except OSError: print('REFUSED')
""",
    # --- network
    "connects to a server of this machine": """
import socket
try: socket.create_connection(('127.0.0.1', {port}), 1).send(b'ESCAPED'); print('ESCAPED')
except OSError: print('REFUSED')
""",
    "connects by IPv6": """
import socket
try: socket.create_connection(('::1', {port}), 1); print('ESCAPED')
except OSError: print('REFUSED')
""",
    "asks for a web page": """
import urllib.request
try: urllib.request.urlopen('http://1.1.1.1/', timeout=1); print('ESCAPED')
except OSError: print('REFUSED')
""",
    "asks a name server": """
import socket
try: socket.gethostbyname('example.org'); print('ESCAPED')
except OSError: print('REFUSED')
""",
    "sends a datagram": """
import socket
try: socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'x', ('8.8.8.8', 53)); print('ESCAPED')
except OSError: print('REFUSED')
""",
    "opens a raw socket": """
import socket
try: socket.socket(socket.AF_INET, socket.SOCK_RAW, 1); print('ESCAPED')
except OSError: print('REFUSED')
""",
    "connects to an abstract socket": """
import socket
try: socket.socket(socket.AF_UNIX).connect('\\0{abstract}'); print('ESCAPED')
except OSError: print('REFUSED')
""",
    "asks the cloud's metadata service": """
import socket
try: socket.create_connection(('169.254.169.254', 80), 1); print('ESCAPED')
except OSError: print('REFUSED')
""",
    "talks to docker": """
import socket
for path in ('/var/run/docker.sock', '/run/docker.sock', '/run/dbus/system_bus_socket'):
    try: socket.socket(socket.AF_UNIX).connect(path); print('ESCAPED')
    except OSError: print('REFUSED')
""",
    "connects to the hypervisor": """
import socket
try: socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM).connect((2, 1024)); print('ESCAPED')
except ConnectionError: print('ESCAPED')  # somebody answered
except OSError: print('REFUSED')
""",
    "uses a socket of the kernel's ciphers": """
import socket
try: socket.socket(socket.AF_ALG, socket.SOCK_SEQPACKET).bind(('hash', 'sha1')); print('ESCAPED')
except OSError: print('REFUSED')
""",
    "listens on every address": """
import socket
server = socket.create_server(('0.0.0.0', 0))
server.settimeout(60)
server.accept()
""",
    # --- files of the user
    "reads a file of the user": """
try: print(open('{secret}').read(), 'ESCAPED')
except OSError: print('REFUSED')
""",
    "searches the home folders": """
import os
for top in ('/home', '/root', '/mnt', '/media', '/srv', '/var', '/work', '/run'):
    for folder, _, names in os.walk(top):
        for name in names: print(os.path.join(folder, name), 'ESCAPED')
print('REFUSED')
""",
    "reads keys": """
import os
for path in ('~/.ssh/id_rsa', '~/.aws/credentials', '~/.netrc', '/root/.ssh/id_rsa', '/etc/shadow', '/etc/ssh'):
    path = os.path.expanduser(path)
    if os.path.exists(path) and os.access(path, os.R_OK): print(path, 'ESCAPED')
print('REFUSED')
""",
    "reads the environment": """
import glob, os
found = dict(os.environ).__repr__().encode()
for path in glob.glob('/proc/[0-9]*/environ'):
    try: found += open(path, 'rb').read()
    except OSError: pass
print('ESCAPED' if b'{canary}' in found else 'REFUSED')
""",
    "reads command lines of other processes": """
import glob
found = b''.join(open(path, 'rb').read() for path in glob.glob('/proc/[0-9]*/cmdline'))
print('ESCAPED' if b'pytest' in found else 'REFUSED')
""",
    "writes into a folder of the user": """
try: open('{folder}/written', 'w').write('x'); print('ESCAPED')
except OSError: print('REFUSED')
""",
    "writes to the system": """
for path in ('/usr/bin/x', '/etc/x', '/x', '/lib/x', '/usr/local/lib/x', '/dev/x', '/packages/x'):
    try: open(path, 'w'); print('ESCAPED', path)
    except OSError: print('REFUSED')
""",
    "link to a file of the user": """
import os
os.symlink('{secret}', 'link'); os.symlink('/proc/1/root', 'root')
for path in ('link', 'root/{secret}', '/proc/self/root/{secret}'):
    try: print(open(path).read(), 'ESCAPED')
    except OSError: print('REFUSED')
""",
    "hard link to a system file": """
import os
try: os.link('/usr/bin/env', 'env'); print('ESCAPED')
except OSError: print('REFUSED')
""",
    "inherited descriptors": """
import os
print('ESCAPED' if set(os.listdir('/proc/self/fd')) - {'0', '1', '2', '3'} else 'REFUSED')
""",
    "root of another process": """
import glob
for path in glob.glob('/proc/[0-9]*/root'):
    try: print(open(path + '{secret}').read(), 'ESCAPED')
    except OSError: print('REFUSED')
""",
    # --- the kernel
    "writes to /proc/sys": """
sys = '/proc/sys/'
for path in (sys + 'kernel/core_pattern', sys + 'kernel/hostname', sys + 'vm/drop_caches', '/proc/sysrq-trigger'):
    try: open(path, 'wb', 0).write(b'1'); print('ESCAPED', path)
    except OSError: print('REFUSED')
""",
    "becomes root": """
import os
for act in (lambda: os.setuid(0), lambda: os.setgid(0), lambda: os.setgroups([0]), lambda: os.chroot('/tmp')):
    try: act(); print('ESCAPED')
    except OSError: print('REFUSED')
""",
    "runs programs with the set-user-ID bit": """
import subprocess
for command in (['su', '-c', 'id'], ['sudo', '-n', 'id'], ['mount', '-t', 'tmpfs', 'x', '/mnt']):
    try:
        ended = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True)
        print('ESCAPED' if ended.returncode == 0 else 'REFUSED')
    except OSError: print('REFUSED')
""",
    "makes namespaces": """
import ctypes
libc = ctypes.CDLL(None)
for flag in (0x10000000, 0x40000000, 0x20000, 0x20000000):
    print('ESCAPED' if libc.unshare(flag) == 0 else 'REFUSED')
""",
    "mounts": """
import ctypes
print('ESCAPED' if ctypes.CDLL(None).mount(b'x', b'/tmp', b'tmpfs', 0, None) == 0 else 'REFUSED')
""",
    "makes a device": """
import os, stat
try: os.mknod('disk', 0o600 | stat.S_IFBLK, os.makedev(254, 0)); print('ESCAPED')
except OSError: print('REFUSED')
""",
    "loads a module of the kernel": """
import ctypes
print('ESCAPED' if ctypes.CDLL(None).syscall(175, 0, 0, b'') == 0 else 'REFUSED')
""",
    "clones into namespaces": """
import ctypes, os
for flag in (0x10000000, 0x40000000, 0x20000, 0x20000000):
    pid = ctypes.CDLL(None).syscall(56, flag | 17, 0, 0, 0, 0)
    if pid == 0:
        print('ESCAPED', flush=True); os._exit(0)
    print('ESCAPED' if pid > 0 else 'REFUSED')
""",
    "overwrites the programs that run": """
import glob
for path in ['/proc/self/exe', '/usr/bin/env', *glob.glob('/proc/[0-9]*/exe')]:
    try: open(path, 'r+b').write(b'x'); print('ESCAPED', path)
    except OSError: print('REFUSED')
""",
    "opens devices of the kernel": """
import glob
for path in ['/dev/mem', '/dev/kmsg', '/dev/kvm', '/dev/fuse', '/dev/vda', '/proc/kcore', *glob.glob('/dev/vsock')]:
    try: open(path, 'rb').read(1); print('ESCAPED', path)
    except OSError: print('REFUSED')
""",
    "reads the kernel's log": """
import ctypes
print('ESCAPED' if ctypes.CDLL(None).syscall(103, 3, ctypes.create_string_buffer(4096), 4096) > 0 else 'REFUSED')
""",
    "uses the keys of the kernel": """
import ctypes
print('ESCAPED' if ctypes.CDLL(None).syscall(248, b'user', b'name', b'x', 1, -3) >= 0 else 'REFUSED')
""",
    "uses calls of another architecture": """
import ctypes
print('ESCAPED' if ctypes.CDLL(None).syscall(0x40000000 | 41, 40, 1, 0) >= 0 else 'REFUSED')
""",
    "runs an anonymous file": """
import os
try:
    held = os.memfd_create('x')
    os.write(held, b'#!/bin/sh\\necho $(id -u)\\n')
    os.execve(held, ['x'], {})
except OSError: print('REFUSED')
""",
    "renames the machine": """
import socket
try: socket.sethostname('x'); print('ESCAPED')
except OSError: print('REFUSED')
""",
    "uses io_uring": """
import ctypes
print('ESCAPED' if ctypes.CDLL(None).syscall(425, 8, ctypes.create_string_buffer(256)) >= 0 else 'REFUSED')
""",
    "changes the clock": """
import time
try: time.clock_settime(time.CLOCK_REALTIME, 0); print('ESCAPED')
except OSError: print('REFUSED')
""",
    "crashes": "import ctypes; ctypes.string_at(0)",
}
"""Name to source. A program prints ESCAPED if it did harm. One that prints REFUSED at its end must come that far."""
