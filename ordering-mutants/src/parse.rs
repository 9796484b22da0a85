//! Finds the sites: walks the ledger's modules as the loom build compiles them.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use proc_macro2::Span;
use syn::punctuated::Punctuated;
use syn::visit::{self, Visit};
use syn::{Attribute, Expr, ExprCall, ExprMethodCall, Ident, Member, Token, Type};

use crate::site::{Access, Kind, Order, Site};

/// The shim: its fences are counted where they are called.
const SHIM: &str = "core/src/sync.rs";

/// What the attributes of an item say about the loom build.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Compiled {
    ForLoom,
    Not(String),
    /// A test's own code is not the ledger.
    Test,
}

/// All sites below `core/src`, by file and position.
pub(crate) fn sites(root: &Path) -> Result<Vec<Site>> {
    let mut sites = Vec::new();
    module(root, Path::new("core/src/lib.rs"), &Compiled::ForLoom, &mut sites)?;
    number(&mut sites);
    Ok(sites)
}

/// Makes names unique in their functions.
fn number(sites: &mut [Site]) {
    let mut seen: HashMap<(String, String, String), usize> = HashMap::new();
    for site in sites {
        let key = (site.file.clone(), site.function.clone(), site.name.clone());
        let count = seen.entry(key).or_insert(0);
        *count += 1;
        if *count > 1 {
            site.name = format!("{} #{count}", site.name);
        }
    }
}

fn module(root: &Path, file: &Path, compiled: &Compiled, sites: &mut Vec<Site>) -> Result<()> {
    let shown = file.display().to_string();
    let text = fs::read_to_string(root.join(file)).with_context(|| shown.clone())?;
    let parsed = syn::parse_file(&text).with_context(|| shown.clone())?;

    let mut finder = Finder {
        file: &shown,
        text: &text,
        compiled: compiled.clone(),
        context: Vec::new(),
        function_text: String::new(),
        found: Vec::new(),
        errors: Vec::new(),
    };
    if shown != SHIM {
        finder.visit_file(&parsed);
        if let Some(error) = finder.errors.first() {
            bail!("{shown}: {error}");
        }
        sites.append(&mut finder.found);
    }

    // A module may be declared twice, public for the models and private otherwise.
    let mut modules: Vec<(&Ident, Compiled)> = Vec::new();
    for item in &parsed.items {
        let syn::Item::Mod(declared) = item else { continue };
        if declared.content.is_some() {
            continue;
        }
        let of_this = compiled_by(&declared.attrs, compiled);
        match modules.iter_mut().find(|(name, _)| **name == declared.ident) {
            Some(other) if other.1 != Compiled::ForLoom => other.1 = of_this,
            Some(_) => {}
            None => modules.push((&declared.ident, of_this)),
        }
    }
    for (name, compiled) in modules {
        if compiled != Compiled::Test {
            module(root, &path_of(root, file, name)?, &compiled, sites)?;
        }
    }
    Ok(())
}

/// Where a function stands in the text of a file, by its type and name.
pub(crate) fn function(text: &str, name: &str) -> Option<std::ops::Range<usize>> {
    let parsed = syn::parse_file(text).ok()?;
    let (ty, function) = match name.rsplit_once("::") {
        Some((ty, function)) => (Some(ty), function),
        None => (None, name),
    };
    let range = |signature: &syn::Signature, block: &syn::Block| {
        signature.fn_token.span.byte_range().start..block.brace_token.span.close().byte_range().end
    };
    parsed.items.iter().find_map(|item| match (item, ty) {
        (syn::Item::Fn(item), None) if item.sig.ident == function => Some(range(&item.sig, &item.block)),
        (syn::Item::Impl(item), Some(ty)) if name_of(&item.self_ty) == ty => {
            item.items.iter().find_map(|item| match item {
                syn::ImplItem::Fn(item) if item.sig.ident == function => Some(range(&item.sig, &item.block)),
                _ => None,
            })
        }
        _ => None,
    })
}

/// The file of a module declared in `file`.
fn path_of(root: &Path, file: &Path, name: &Ident) -> Result<PathBuf> {
    let folder = file.parent().context("a file is in a folder")?;
    let folder = match file.file_stem().and_then(|stem| stem.to_str()) {
        Some("lib" | "mod") => folder.to_owned(),
        Some(stem) => folder.join(stem),
        None => bail!("{} has no name", file.display()),
    };
    let flat = folder.join(format!("{name}.rs"));
    let nested = folder.join(name.to_string()).join("mod.rs");
    let path = if root.join(&flat).is_file() { flat } else { nested };
    ensure!(root.join(&path).is_file(), "no file for the module {name}");
    Ok(path)
}

fn compiled_by(attributes: &[Attribute], outer: &Compiled) -> Compiled {
    if *outer != Compiled::ForLoom {
        return outer.clone();
    }
    for attribute in attributes {
        if !attribute.path().is_ident("cfg") {
            continue;
        }
        let Ok(list) = attribute.meta.require_list() else {
            continue;
        };
        let condition = list.tokens.to_string().replace(' ', "");
        // The ledger uses these and no others; a new one is to be looked at.
        match condition.as_str() {
            "loom" => {}
            "test" | "all(test,not(loom))" | "doctest" => return Compiled::Test,
            "not(loom)" => return Compiled::Not("`#[cfg(not(loom))]`".to_owned()),
            other => return Compiled::Not(format!("`#[cfg({other})]`")),
        }
    }
    Compiled::ForLoom
}

struct Finder<'t> {
    file: &'t str,
    text: &'t str,
    compiled: Compiled,
    /// Type and function, as far as the walk is inside.
    context: Vec<String>,
    function_text: String,
    found: Vec<Site>,
    errors: Vec<String>,
}

impl Finder<'_> {
    fn within(&mut self, attributes: &[Attribute], name: Option<String>, walk: impl FnOnce(&mut Self)) {
        let outer = self.compiled.clone();
        self.compiled = compiled_by(attributes, &outer);
        let depth = self.context.len();
        self.context.extend(name);
        walk(self);
        self.context.truncate(depth);
        self.compiled = outer;
    }

    fn function(&mut self, start: Span, end: Span, walk: impl FnOnce(&mut Self)) {
        let text = &self.text[start.byte_range().start..end.byte_range().end];
        let is_outermost = self.function_text.is_empty();
        if is_outermost {
            self.function_text = text.to_owned();
        }
        walk(self);
        if is_outermost {
            self.function_text.clear();
        }
    }

    fn add(&mut self, name: String, kind: Kind, span: std::ops::Range<usize>) {
        let not_compiled = match &self.compiled {
            Compiled::Test => return,
            Compiled::ForLoom => None,
            Compiled::Not(why) => Some(why.clone()),
        };
        let line = self.text[..span.start].matches('\n').count() + 1;
        self.found.push(Site {
            file: self.file.to_owned(),
            function: self.context.join("::"),
            name,
            line,
            kind,
            function_text: self.function_text.clone(),
            not_compiled,
            span,
        });
    }
}

/// The ordering that an expression names, and where.
fn ordering_of(expression: &Expr) -> Option<(Order, std::ops::Range<usize>)> {
    let Expr::Path(path) = expression else { return None };
    let segments: Vec<&Ident> = path.path.segments.iter().map(|segment| &segment.ident).collect();
    let [.., owner, last] = segments.as_slice() else {
        return None;
    };
    if *owner != "Ordering" {
        return None;
    }
    let order = Order::parse(&last.to_string())?;
    let start = segments.first()?.span().byte_range().start;
    Some((order, start..last.span().byte_range().end))
}

/// What an atomic's method takes its orderings for, in their order.
fn accesses_of(method: &str) -> &'static [(Access, &'static str)] {
    match method {
        "load" => &[(Access::Load, "")],
        "store" => &[(Access::Store, "")],
        "compare_exchange" | "compare_exchange_weak" | "fetch_update" => {
            &[(Access::Rmw, ""), (Access::Load, " (failure)")]
        }
        "swap" | "fetch_add" | "fetch_sub" | "fetch_or" | "fetch_and" | "fetch_max" | "fetch_min"
        | "fetch_xor" => &[(Access::Rmw, "")],
        _ => &[],
    }
}

/// The word that a method is called on, in short.
fn word(receiver: &Expr) -> String {
    match receiver {
        Expr::Field(field) => match &field.member {
            Member::Named(name) => name.to_string(),
            Member::Unnamed(index) => format!("{}.{}", word(&field.base), index.index),
        },
        Expr::Index(index) => word(&index.expr),
        Expr::MethodCall(call) => format!("{}()", call.method),
        Expr::Path(path) => path
            .path
            .segments
            .last()
            .map_or_else(|| "?".to_owned(), |segment| segment.ident.to_string()),
        Expr::Paren(inner) => word(&inner.expr),
        Expr::Reference(inner) => word(&inner.expr),
        Expr::Unary(inner) => word(&inner.expr),
        Expr::Try(inner) => word(&inner.expr),
        _ => "?".to_owned(),
    }
}

fn name_of(ty: &Type) -> String {
    match ty {
        Type::Path(path) => path
            .path
            .segments
            .last()
            .map_or_else(|| "?".to_owned(), |segment| segment.ident.to_string()),
        Type::Reference(inner) => name_of(&inner.elem),
        _ => "?".to_owned(),
    }
}

impl<'ast> Visit<'ast> for Finder<'_> {
    fn visit_item_mod(&mut self, item: &'ast syn::ItemMod) {
        self.within(&item.attrs, None, |this| visit::visit_item_mod(this, item));
    }

    fn visit_item_impl(&mut self, item: &'ast syn::ItemImpl) {
        let name = name_of(&item.self_ty);
        self.within(&item.attrs, Some(name), |this| visit::visit_item_impl(this, item));
    }

    fn visit_item_fn(&mut self, item: &'ast syn::ItemFn) {
        let name = item.sig.ident.to_string();
        let (start, end) = (item.sig.fn_token.span, item.block.brace_token.span.close());
        self.within(&item.attrs, Some(name), |this| {
            this.function(start, end, |this| visit::visit_item_fn(this, item));
        });
    }

    fn visit_impl_item_fn(&mut self, item: &'ast syn::ImplItemFn) {
        let name = item.sig.ident.to_string();
        let (start, end) = (item.sig.fn_token.span, item.block.brace_token.span.close());
        self.within(&item.attrs, Some(name), |this| {
            this.function(start, end, |this| visit::visit_impl_item_fn(this, item));
        });
    }

    fn visit_expr_method_call(&mut self, call: &'ast ExprMethodCall) {
        self.visit_expr(&call.receiver);
        let accesses = accesses_of(&call.method.to_string());
        let mut accesses = accesses.iter();
        for argument in &call.args {
            let Some((order, span)) = ordering_of(argument) else {
                self.visit_expr(argument);
                continue;
            };
            match accesses.next() {
                Some((access, which)) => {
                    let name = format!("{}.{}{which}", word(&call.receiver), call.method);
                    self.add(name, Kind::Access(*access, order), span);
                }
                None => self.errors.push(format!(
                    "{} does not take {order:?}, as far as is known",
                    call.method
                )),
            }
        }
    }

    fn visit_expr_call(&mut self, call: &'ast ExprCall) {
        let (Expr::Path(path), args) = (&*call.func, &call.args) else {
            return visit::visit_expr_call(self, call);
        };
        let names: Vec<&Ident> = path.path.segments.iter().map(|segment| &segment.ident).collect();
        let (Some(first), Some(last)) = (names.first(), names.last()) else {
            return visit::visit_expr_call(self, call);
        };
        let span = first.span().byte_range().start..call.paren_token.span.close().byte_range().end;
        match (last.to_string().as_str(), args.first().and_then(ordering_of)) {
            ("fence", Some((order, _))) => self.add("fence".to_owned(), Kind::Fence(order), span),
            (name @ "fence_behind_rmw", None) => {
                self.add(name.to_owned(), Kind::Call(name.to_owned()), span);
            }
            _ => visit::visit_expr_call(self, call),
        }
    }

    fn visit_expr(&mut self, expression: &'ast Expr) {
        // An ordering that goes some other way than straight to an atomic; Relaxed has nothing to weaken.
        if let Some((order, _)) = ordering_of(expression)
            && order != Order::Relaxed
            && self.compiled == Compiled::ForLoom
        {
            self.errors.push(format!(
                "{}: {order:?} is given to nothing known",
                self.context.join("::")
            ));
        }
        visit::visit_expr(self, expression);
    }

    fn visit_macro(&mut self, call: &'ast syn::Macro) {
        type Arguments = Punctuated<Expr, Token![,]>;
        match call.parse_body_with(Arguments::parse_terminated) {
            // What is parsed from a macro is not `'ast`: a walk of its own.
            Ok(arguments) => {
                let mut inner = Finder {
                    context: self.context.clone(),
                    compiled: self.compiled.clone(),
                    function_text: self.function_text.clone(),
                    found: Vec::new(),
                    errors: Vec::new(),
                    ..*self
                };
                for argument in &arguments {
                    inner.visit_expr(argument);
                }
                self.found.append(&mut inner.found);
                self.errors.append(&mut inner.errors);
            }
            Err(_) if call.tokens.to_string().contains("Ordering ::") => {
                self.errors.push(format!(
                    "{}: an ordering in a macro's body",
                    self.context.join("::")
                ));
            }
            Err(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(text: &str) -> Vec<Site> {
        let parsed = syn::parse_file(text).expect("it parses");
        let mut finder = Finder {
            file: "some.rs",
            text,
            compiled: Compiled::ForLoom,
            context: Vec::new(),
            function_text: String::new(),
            found: Vec::new(),
            errors: Vec::new(),
        };
        finder.visit_file(&parsed);
        assert_eq!(finder.errors, Vec::<String>::new());
        number(&mut finder.found);
        finder.found
    }

    #[test]
    fn sites_are_named_after_word_and_method() {
        let sites = found(
            "impl Segment { fn f(&self) {
                self.tally.live.load(Ordering::Acquire);
                self.ready[1].fetch_or(1, Ordering::AcqRel);
                self.0.compare_exchange_weak(a, b, Ordering::Release, Ordering::Relaxed);
                self.tally.live.load(Ordering::Relaxed);
                debug_assert!(word.load(Ordering::Acquire) > 0, \"text\");
                fence(Ordering::SeqCst);
                sync::fence_behind_rmw();
            } }",
        );
        let shown: Vec<String> = sites
            .iter()
            .map(|site| format!("{} {}", site.name, site.kind.written()))
            .collect();
        assert_eq!(
            shown,
            [
                "live.load Acquire",
                "ready.fetch_or AcqRel",
                "self.0.compare_exchange_weak Release",
                "self.0.compare_exchange_weak (failure) Relaxed",
                "live.load #2 Relaxed",
                "word.load Acquire",
                "fence SeqCst",
                "fence_behind_rmw there",
            ]
        );
        assert!(sites.iter().all(|site| site.function == "Segment::f"));
        assert_eq!(sites[4].line, 5);
    }

    #[test]
    fn what_loom_does_not_compile_is_told_apart() {
        let sites = found(
            "#[cfg(not(loom))] fn f() { a.load(Ordering::Acquire); }
             #[cfg(all(test, not(loom)))] mod tests { fn g() { a.load(Ordering::Acquire); } }
             fn h() { a.load(Ordering::Acquire); }",
        );
        let shown: Vec<(&str, bool)> = sites
            .iter()
            .map(|site| (site.function.as_str(), site.not_compiled.is_some()))
            .collect();
        assert_eq!(shown, [("f", true), ("h", false)]);
    }
}
