//! Opens the server's two ports. An error is one sentence that names the address's key, returned before anything is served.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener as StdListener};

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::TcpListener;

use super::in_use::open_within;
use crate::config::{Host, Listen, Server};

/// The kernel's queue of connections that are not accepted yet.
const BACKLOG: i32 = 1024;

/// Both ports, open. A name such as `localhost` has several addresses, with a listener for each.
pub struct Ports {
    pub public: Vec<TcpListener>,
    pub admin: Vec<TcpListener>,
}

/// Why a port cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum PortError {
    #[error("server.listen and server.admin are both {0}: each needs a port of its own")]
    Same(Listen),
    #[error("{key} ({flag}): {listen} is in use by another program")]
    InUse { key: &'static str, flag: &'static str, listen: Listen },
    #[error("{key} ({flag}): {listen} is no address of this machine")]
    NotHere { key: &'static str, flag: &'static str, listen: Listen },
    #[error("{key} ({flag}): the name in {listen} has no address")]
    NoAddress { key: &'static str, flag: &'static str, listen: Listen },
    #[error("{key} ({flag}): {listen} cannot be opened: {why}")]
    Other { key: &'static str, flag: &'static str, listen: Listen, why: io::Error },
}

impl PortError {
    fn is_in_use(&self) -> bool {
        matches!(self, Self::InUse { .. })
    }
}

impl Ports {
    /// Opens both ports, or neither.
    ///
    /// # Errors
    /// A port that is still in use after `server.in_use_timeout`, or an address that cannot be opened.
    pub async fn bind(server: &Server) -> Result<Self, PortError> {
        open_within(server.in_use_timeout, PortError::is_in_use, async || Self::bind_now(server).await).await
    }

    async fn bind_now(server: &Server) -> Result<Self, PortError> {
        let (public, admin) = bind_both(server).await?;
        let listening = |sockets: Vec<Socket>| sockets.into_iter().map(listen).collect::<io::Result<_>>();
        Ok(Self {
            public: listening(public).map_err(|why| port_error(PUBLIC, &server.listen, why))?,
            admin: listening(admin).map_err(|why| port_error(ADMIN, &server.admin, why))?,
        })
    }

    /// Checks that both can be opened. No connection is accepted meanwhile.
    ///
    /// # Errors
    /// As [`bind`](Self::bind).
    pub async fn check(server: &Server) -> Result<(), PortError> {
        open_within(server.in_use_timeout, PortError::is_in_use, async || bind_both(server).await.map(drop)).await
    }

    /// The address of the public port, with the chosen port if the configured one is 0.
    pub fn public_address(&self) -> Option<SocketAddr> {
        first(&self.public)
    }

    /// The address of the operator's port.
    pub fn admin_address(&self) -> Option<SocketAddr> {
        first(&self.admin)
    }
}

/// A port's key and flag.
type Name = (&'static str, &'static str);

const PUBLIC: Name = ("server.listen", "--listen");
const ADMIN: Name = ("server.admin", "--admin");

/// Sockets that are bound to both ports and do not listen yet.
async fn bind_both(server: &Server) -> Result<(Vec<Socket>, Vec<Socket>), PortError> {
    if server.listen == server.admin && server.listen.port != 0 {
        return Err(PortError::Same(server.listen.clone()));
    }
    let public = bind(&server.listen).await.map_err(|why| port_error(PUBLIC, &server.listen, why))?;
    let admin = bind(&server.admin).await.map_err(|why| port_error(ADMIN, &server.admin, why))?;
    Ok((public, admin))
}

fn first(listeners: &[TcpListener]) -> Option<SocketAddr> {
    listeners.first().and_then(|listener| listener.local_addr().ok())
}

fn port_error((key, flag): Name, listen: &Listen, why: io::Error) -> PortError {
    let listen = listen.clone();
    match why.kind() {
        io::ErrorKind::AddrInUse => PortError::InUse { key, flag, listen },
        io::ErrorKind::AddrNotAvailable => PortError::NotHere { key, flag, listen },
        io::ErrorKind::NotFound => PortError::NoAddress { key, flag, listen },
        _ => PortError::Other { key, flag, listen, why },
    }
}

async fn bind(listen: &Listen) -> io::Result<Vec<Socket>> {
    match &listen.host {
        Host::All => {
            let both = open(SocketAddr::from((Ipv6Addr::UNSPECIFIED, listen.port)));
            let opened = match both {
                // The machine may lack IPv6.
                Err(why) if is_missing(&why) => open(SocketAddr::from((Ipv4Addr::UNSPECIFIED, listen.port))),
                other => other,
            };
            Ok(vec![opened?])
        }
        Host::Address(address) => Ok(vec![open(SocketAddr::from((*address, listen.port)))?]),
        Host::Name(name) => {
            let unknown = |_| io::Error::from(io::ErrorKind::NotFound);
            let found = tokio::net::lookup_host((name.as_str(), listen.port)).await.map_err(unknown)?;
            let mut addresses: Vec<IpAddr> = found.map(|address| address.ip()).collect();
            addresses.sort_unstable();
            addresses.dedup();
            bind_each(&addresses, listen.port)
        }
    }
}

/// Binds the same port at each address. An address that the machine lacks, such as `::1` without IPv6, is skipped if another exists.
fn bind_each(addresses: &[IpAddr], mut port: u16) -> io::Result<Vec<Socket>> {
    let mut sockets = Vec::new();
    let mut missing = io::Error::from(io::ErrorKind::NotFound);
    for address in addresses {
        match open(SocketAddr::from((*address, port))) {
            Ok(socket) => {
                port = socket.local_addr()?.as_socket().map_or(port, |at| at.port());
                sockets.push(socket);
            }
            Err(why) if is_missing(&why) => missing = why,
            Err(why) => return Err(why),
        }
    }
    if sockets.is_empty() { Err(missing) } else { Ok(sockets) }
}

fn is_missing(why: &io::Error) -> bool {
    why.kind() == io::ErrorKind::AddrNotAvailable
        || matches!(why.raw_os_error(), Some(libc::EAFNOSUPPORT | libc::EPROTONOSUPPORT))
}

fn open(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.ip() == IpAddr::V6(Ipv6Addr::UNSPECIFIED) {
        // The socket accepts IPv4 too, whatever the system's default is.
        socket.set_only_v6(false)?;
    }
    // A restart must not wait for the last run's connections in TIME_WAIT.
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    Ok(socket)
}

fn listen(socket: Socket) -> io::Result<TcpListener> {
    socket.listen(BACKLOG)?;
    TcpListener::from_std(StdListener::from(socket))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::time::Duration;

    use super::*;

    fn server(listen: &str, admin: &str) -> Server {
        Server { listen: listen.parse().unwrap(), admin: admin.parse().unwrap(), ..Server::default() }
    }

    async fn refusal(listen: &str, admin: &str) -> String {
        Ports::bind(&server(listen, admin)).await.err().unwrap().to_string()
    }

    #[tokio::test]
    async fn every_form_of_an_address_is_bound() {
        for listen in ["127.0.0.1:0", "localhost:0", ":0", "[::]:0"] {
            let ports = Ports::bind(&server(listen, "127.0.0.1:0")).await.unwrap();
            let (public, admin) = (ports.public_address().unwrap().port(), ports.admin_address().unwrap().port());
            assert!(public != 0 && admin != 0 && public != admin, "{listen}");
            tokio::net::TcpStream::connect((Ipv4Addr::LOCALHOST, public)).await.unwrap();
            let ports = ports.public.iter().map(|listener| listener.local_addr().unwrap().port());
            assert!(ports.into_iter().all(|port| port == public), "{listen}");
        }
    }

    #[tokio::test]
    async fn a_port_in_use_is_opened_once_it_is_free() {
        let other = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let taken = other.local_addr().unwrap().to_string();
        let config = Server { in_use_timeout: Duration::from_secs(60), ..server(&taken, "127.0.0.1:0") };
        let patient = Ports::bind(&config);
        let impatient = async {
            let config = Server { in_use_timeout: Duration::ZERO, ..server(&taken, "127.0.0.1:0") };
            assert!(Ports::bind(&config).await.is_err());
            drop(other);
        };
        let (ports, ()) = tokio::join!(patient, impatient);
        assert_eq!(ports.unwrap().public_address().unwrap().to_string(), taken);
    }

    #[tokio::test]
    async fn a_port_that_cannot_be_opened_is_named_by_its_key() {
        let other = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let taken = other.local_addr().unwrap();
        let error = refusal(&taken.to_string(), "127.0.0.1:0").await;
        assert_eq!(error, format!("server.listen (--listen): {taken} is in use by another program"));
        let error = refusal("127.0.0.1:0", &format!("localhost:{}", taken.port())).await;
        assert!(error.starts_with("server.admin (--admin): ") && error.ends_with("is in use by another program"), "{error}");
        let error = refusal(&format!(":{}", taken.port()), "127.0.0.1:0").await;
        assert!(error.ends_with("is in use by another program"), "{error}");
        assert!(refusal(":1", ":1").await.contains("each needs a port of its own"));
        assert!(refusal("192.0.2.1:0", "127.0.0.1:0").await.ends_with("is no address of this machine"));
        assert!(refusal("no-such-name.invalid:0", "127.0.0.1:0").await.ends_with("has no address"));
    }
}
