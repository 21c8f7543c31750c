//! plugin-name PluginName
