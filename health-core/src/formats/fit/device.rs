//! The name of the device that wrote a FIT file, by the tables of the FIT profile.

use fitparser::profile::field_types::{FieldDataType, get_field_variant_as_string};

use super::container::Message;

/// The fields of a `file_id` message.
const MANUFACTURER: u8 = 1;
const PRODUCT: u8 = 2;

/// The manufacturers whose product numbers are those of Garmin: Garmin, Dynastream, Dynastream OEM and Tacx.
const GARMIN_PRODUCTS: [i64; 4] = [1, 15, 13, 89];

/// The manufacturer Favero, which has product numbers of its own in the profile.
const FAVERO: i64 = 263;

/// Returns the manufacturer and the product that a `file_id` message names, such as `garmin fenix5`. A number stands
/// for what the profile does not name, as in `zwift 0`.
pub(super) fn device_name(file_id: &Message<'_>) -> Option<String> {
    let manufacturer = file_id.integer(MANUFACTURER)?;
    let mut name = name_or_number(FieldDataType::Manufacturer, manufacturer);
    if let Some(product) = file_id.integer(PRODUCT) {
        let product = if GARMIN_PRODUCTS.contains(&manufacturer) {
            name_or_number(FieldDataType::GarminProduct, product)
        } else if manufacturer == FAVERO {
            name_or_number(FieldDataType::FaveroProduct, product)
        } else {
            product.to_string()
        };
        name = format!("{name} {product}");
    }
    Some(name)
}

fn name_or_number(table: FieldDataType, number: i64) -> String {
    if table.is_named_variant(number) {
        get_field_variant_as_string(table, number)
    } else {
        number.to_string()
    }
}
