//! The host's calls: each runs twice on fresh instances and is committed once. Messages and counts that follow from a call are handled
//! before the test continues.

use std::{
    any::Any,
    cell::RefCell,
    collections::BTreeSet,
    fmt::Debug,
    panic::{AssertUnwindSafe, catch_unwind},
    rc::Rc,
    time::Duration,
};

use serde_json::Value;

use super::{
    DisconnectReason, World,
    call::{self, About, Call, Scoped},
    fail,
    identity::roles,
    names,
    once::Once,
    std_time, types,
    world::{LogLine, Queued, Socket},
};
use crate::{
    Plugin, Refusal, RefusalCode,
    bindings::hubbub::plugin::{log::Level, types::User},
    glue::{
        self,
        handler::{self, Description, Door, TokenPolicy},
    },
};

type Shared = Rc<RefCell<World>>;

/// The description, which must be the same at every call.
#[track_caller]
pub(super) fn describe<P: Plugin>() -> Description {
    let (description, asked) = std_time::watched(P::describe);
    check_time("describe", asked);
    if description != P::describe() {
        fail("`describe` returns another description at each call");
    }
    let namespaces: BTreeSet<&str> = description.namespaces.iter().map(|place| place.path.as_str()).collect();
    let rooms = description.rooms.iter().map(|room| &room.namespace);
    let emits = description.emits.iter().map(|event| &event.namespace);
    let events = description.events.iter().map(|event| &event.namespace);
    for named in rooms.chain(emits).chain(events) {
        if !namespaces.contains(named.as_str()) {
            fail(&format!("the description names {named:?}, a namespace that it takes no part in"));
        }
    }
    let mut handled = BTreeSet::new();
    for event in &description.events {
        if !handled.insert((&event.namespace, &event.name)) {
            fail(&format!("two parts handle the event {:?} of {:?}", event.name, event.namespace));
        }
    }
    description
}

#[track_caller]
pub(super) fn init<P: Plugin>(world: &Shared) -> Result<P, String> {
    let config = world.borrow().config.clone();
    let ((made, asked), _) = call::within(world, Call::default(), || std_time::watched(|| P::init(&config)));
    check_time("init", asked);
    made
}

/// Fails the test if the plugin would panic in a component.
#[track_caller]
fn check_time(what: &str, asked: bool) {
    if asked {
        fail(&format!("{what} {}", std_time::WHY));
    }
}

pub(super) fn inside<T>(world: &Shared, look: impl FnOnce() -> T) -> T {
    let (result, call) = call::within(world, Call { transaction: true, ..Call::default() }, look);
    world.borrow_mut().logs.extend(call.logs);
    result
}

/// The door policy, then `authorize`, then `on_connect`. The error is the sentence of the `connect_error`.
#[track_caller]
pub(super) fn connect<P: Plugin>(world: &Shared, namespace: &str, mut user: Option<User>, auth: &str) -> Result<u64, String> {
    let (socket, authorize) = {
        let mut world = world.borrow_mut();
        let Some(place) = world.place(namespace) else {
            fail(&format!("the plugin takes no part in the namespace {namespace:?}"));
        };
        let door = place.door.clone();
        if let Some(door) = &door {
            check_door(door, user.as_mut(), world.needs_tenant())?;
        }
        (world.next_socket(), door.is_some_and(|door| door.authorize))
    };
    let about = About { socket, namespace: namespace.to_owned(), user: user.clone() };
    if authorize {
        let ran =
            twice::<P, _>(world, Some(&about), None, "authorize", |plugin| plugin.authorize(caller(&about), auth.to_owned()));
        match ran {
            Ok((answer, _)) => answer.map_err(|refusal| refusal.message)?,
            Err(_) => return Err("Internal error".to_owned()),
        }
    }
    let rooms = BTreeSet::new();
    let state = Socket { namespace: namespace.to_owned(), user, rooms, inbox: Vec::new(), gone: false };
    world.borrow_mut().sockets.insert(socket, state);
    if world.borrow().description.hooks.contains(handler::Hooks::CONNECT) {
        let ran = twice::<P, _>(world, Some(&about), None, "on_connect", |plugin| plugin.on_connect(caller(&about)));
        if let Err(failure) = commit(world, ran, 0) {
            fail(&format!("on_connect failed: {failure}"));
        }
    }
    settle::<P>(world);
    Ok(socket)
}

/// Checks the door policy. Sets the user's role to the one that it matched.
fn check_door(door: &Door, user: Option<&mut User>, tenants: bool) -> Result<(), String> {
    let Some(user) = user else {
        let closed = door.token == TokenPolicy::Required || tenants;
        return if closed { Err(door.missing.clone()) } else { Ok(()) };
    };
    let claims: Value = serde_json::from_str(&user.claims).unwrap_or_default();
    let there = |name: &String| claims.get(name).is_some_and(|value| !value.is_null() && value != "");
    if !door.claims.iter().all(there) || (tenants && user.tenant.is_none()) {
        return Err(door.invalid.clone());
    }
    if !door.roles.is_empty() {
        let roles = claims.as_object().map(roles).unwrap_or_default();
        let opens = roles.into_iter().find(|role| door.roles.contains(role));
        user.role = Some(opens.ok_or_else(|| door.forbidden.clone())?);
    }
    Ok(())
}

#[track_caller]
pub(super) fn event<P: Plugin>(world: &Shared, socket: u64, name: &str, args: &str) -> Result<Option<String>, Refusal> {
    let about = about(world, socket);
    if names::json(args).is_err() {
        return Err(Refusal::new(RefusalCode::Invalid, "Invalid payload"));
    }
    let (event, on_failure, once) = {
        let mut world = world.borrow_mut();
        let place = world.place(&about.namespace).map(|place| place.path.clone()).unwrap_or_default();
        let known = world.description.events.iter().find(|event| event.namespace == place && event.name == name);
        let Some(known) = known.cloned() else { return Err(Refusal::not_found("Unknown event")) };
        let once = known.once.map_or(Ok(None), |field| Once::of(&about, name, args, &field))?;
        if let Some(reply) = once.as_ref().and_then(|once| world.repeat(once, socket)) {
            return Ok(reply);
        }
        (handler::Event { id: world.next_id(), name: name.to_owned(), args: args.to_owned() }, known.on_failure, once)
    };
    let ran = twice::<P, _>(world, Some(&about), None, name, |plugin| plugin.on_event(caller(&about), event.clone()));
    let answer = match ran {
        Err(_) => Err(Refusal::new(RefusalCode::Internal, on_failure.unwrap_or_else(|| "Internal error".into()))),
        Ok((Err(refusal), _)) => Err(refusal),
        Ok((Ok(reply), call)) => {
            let committed = world.borrow_mut().commit(&call, 0);
            let sentence = |refusal: Refusal| match on_failure {
                Some(sentence) if refusal.code == RefusalCode::Unavailable => Refusal { message: sentence, ..refusal },
                _ => refusal,
            };
            if let (Ok(()), Some(once)) = (&committed, once) {
                world.borrow_mut().remember(once, reply.clone(), &call);
            }
            committed.map(|()| reply).map_err(sentence)
        }
    };
    settle::<P>(world);
    answer
}

#[track_caller]
pub(super) fn disconnect<P: Plugin>(world: &Shared, socket: u64, reason: DisconnectReason) {
    let about = about(world, socket);
    world.borrow_mut().disconnect(socket, reason == DisconnectReason::Client);
    if world.borrow().description.hooks.contains(handler::Hooks::DISCONNECT) {
        let ran = twice::<P, _>(world, Some(&about), None, "on_disconnect", |plugin| {
            plugin.on_disconnect(caller(&about), reason);
            Ok(())
        });
        if let Err(failure) = commit(world, ran, 0) {
            fail(&format!("on_disconnect failed: {failure}"));
        }
    }
    settle::<P>(world);
}

#[track_caller]
pub(super) fn put_in(world: &Shared, socket: u64, room: &str) {
    let tenant = about(world, socket).user.and_then(|user| user.tenant);
    let mut world = world.borrow_mut();
    let tenant = tenant.filter(|_| world.has_tenants());
    world.move_socket(socket, &Scoped { tenant, name: room.to_owned() }, true);
}

#[track_caller]
pub(super) fn publish<P: Plugin>(world: &Shared, tenant: Option<String>, topic: &str, data: &Value) -> Result<(), String> {
    if !world.borrow().handles(topic) {
        fail(&format!("the plugin does not handle the topic {topic:?}"));
    }
    let tenant = tenant.or_else(|| world.borrow().tenant_in(data));
    if world.borrow().needs_tenant() && tenant.is_none() {
        return Err("invalid data: the message belongs to no tenant".to_owned());
    }
    let message = Queued { topic: topic.to_owned(), tenant, data: data.clone(), hops: 0 };
    let handled = message_arrives::<P>(world, message);
    settle::<P>(world);
    handled
}

/// Moves the clock from one due moment to the next.
#[track_caller]
pub(super) fn advance<P: Plugin>(world: &Shared, time: Duration) {
    let target = world.borrow().now + u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    loop {
        let due = world.borrow().due().filter(|due| *due <= target);
        let Some(due) = due else { break };
        {
            let mut world = world.borrow_mut();
            world.now = world.now.max(due);
        }
        settle::<P>(world);
        run_timers::<P>(world);
    }
    world.borrow_mut().now = target;
    settle::<P>(world);
}

#[track_caller]
fn run_timers<P: Plugin>(world: &Shared) {
    let due = due_timers(&mut world.borrow_mut());
    for due in due {
        let (key, tenant) = (due.key.clone(), due.tenant.clone());
        let ran = twice::<P, _>(world, None, tenant, "on_timer", |plugin| plugin.on_timer(due.clone()));
        if let Err(failure) = commit_data(world, ran, 0) {
            fail(&format!("the timer {key} failed: {failure}"));
        }
        settle::<P>(world);
    }
}

fn due_timers(world: &mut World) -> Vec<handler::DueTimer> {
    let now = world.now;
    let ready: Vec<Scoped> = world.timers.iter().filter(|(_, one)| one.due <= now).map(|(key, _)| key.clone()).collect();
    let mut due = Vec::new();
    for key in ready {
        if let Some(waiting) = world.timers.remove(&key) {
            let payload = Some(waiting.payload.to_string());
            due.push(handler::DueTimer { key: key.name, tenant: key.tenant, payload, due: waiting.due });
        }
    }
    for (key, (next, every)) in &mut world.schedules {
        if *next <= now {
            due.push(handler::DueTimer { key: key.clone(), tenant: None, payload: None, due: *next });
            *next += *every;
        }
    }
    due.sort_by_key(|one| one.due);
    due
}

/// Handles messages until none is left.
#[track_caller]
fn settle<P: Plugin>(world: &Shared) {
    loop {
        let next = {
            let mut world = world.borrow_mut();
            world.notice();
            world.bus.pop_front()
        };
        let Some(message) = next else { return };
        let topic = message.topic.clone();
        if let Err(failure) = message_arrives::<P>(world, message) {
            fail(&format!("the message {topic} failed: {failure}"));
        }
    }
}

fn message_arrives<P: Plugin>(world: &Shared, queued: Queued) -> Result<(), String> {
    let tenant = queued.tenant.or_else(|| world.borrow().tenant_in(&queued.data));
    let message = {
        let mut world = world.borrow_mut();
        let (id, at) = (world.next_id(), world.now);
        let data = queued.data.to_string();
        handler::Message { id, topic: queued.topic, tenant: tenant.clone(), data, at }
    };
    let ran = twice::<P, _>(world, None, tenant, "on_message", |plugin| plugin.on_message(message.clone()));
    commit_data(world, ran, queued.hops)
}

type Ran<T> = Result<(T, Call), String>;

fn commit(world: &Shared, ran: Ran<Result<(), Refusal>>, hops: u8) -> Result<(), String> {
    let (answer, call) = ran?;
    answer.and_then(|()| world.borrow_mut().commit(&call, hops)).map_err(|refusal| refusal.message)
}

/// As [`commit`], for a message or a timer: the error is the failure that the host gets.
fn commit_data(world: &Shared, ran: Ran<Result<(), Refusal>>, hops: u8) -> Result<(), String> {
    let (answer, call) = ran?;
    answer.map_err(|refusal| glue::failure_on_data(refusal).message)?;
    world.borrow_mut().commit(&call, hops).map_err(|refusal| refusal.message)
}

/// Runs a call on two fresh instances and returns the second run. An error is a trap.
#[track_caller]
fn twice<P: Plugin, T: PartialEq + Debug>(
    world: &Shared,
    about: Option<&About>,
    tenant: Option<String>,
    what: &str,
    run: impl Fn(&P) -> T,
) -> Ran<T> {
    let tenant = tenant.or_else(|| about?.user.as_ref()?.tenant.clone());
    let fresh = |answers| Call { caller: about.cloned(), tenant: tenant.clone(), transaction: true, answers, ..Call::default() };
    let (first, first_call) = once::<P, T>(world, fresh(Vec::new()), what, &run);
    let (second, second_call) = once::<P, T>(world, fresh(first_call.answers.clone()), what, &run);
    if (&first, &first_call.effects) != (&second, &second_call.effects) {
        fail(&format!(
            "{what} does something else when it runs again; a handler must depend on its arguments and imports alone \
             (randomness is `hubbub_sdk::random`, time `hubbub_sdk::clock`)\n\
             first: {first:?} {:#?}\nsecond: {second:?} {:#?}",
            first_call.effects, second_call.effects
        ));
    }
    let mut world = world.borrow_mut();
    world.logs.extend(second_call.logs.iter().cloned());
    for (name, value, adds) in &second_call.metrics {
        let metric = world.metrics.entry(name.clone()).or_default();
        *metric = if *adds { *metric + value } else { *value };
    }
    match second {
        Ok(answer) => Ok((answer, second_call)),
        Err(trap) => {
            let message = format!("{what} trapped: {trap}");
            world.logs.push(LogLine { level: Level::Error, message: message.clone(), fields: Value::Null });
            Err(message)
        }
    }
}

#[track_caller]
fn once<P: Plugin, T>(world: &Shared, call: Call, what: &str, run: &impl Fn(&P) -> T) -> (Result<T, String>, Call) {
    let plugin = match init::<P>(world) {
        Ok(plugin) => plugin,
        Err(sentence) => fail(&format!("init failed: {sentence}")),
    };
    let run = || catch_unwind(AssertUnwindSafe(|| run(&plugin))).map_err(|panic| sentence(&*panic));
    let ((result, asked), call) = call::within(world, call, || std_time::watched(run));
    check_time(what, asked);
    (result, call)
}

fn sentence(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "a panic".to_owned())
}

#[track_caller]
fn about(world: &Shared, socket: u64) -> About {
    let world = world.borrow();
    match world.sockets.get(&socket).filter(|socket| !socket.gone) {
        Some(state) => About { socket, namespace: state.namespace.clone(), user: state.user.clone() },
        None => fail("the client has disconnected"),
    }
}

fn caller(about: &About) -> types::Caller {
    types::Caller { socket: about.socket, namespace: about.namespace.clone(), user: about.user.clone() }
}
